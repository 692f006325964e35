import sys
from functools import partial
from benchmarks.peers import memory, peak
from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.processes import in_fresh_process
def variant(competitor, case, T, B):
    competitor.setup(case._replace(T=T, B=B))[GRADIENT].run()
    task = competitor.setup(case)[GRADIENT]
    peak.reset_peak(); before=peak.status_megabytes("VmRSS"); f0=peak.status_megabytes("RssFile")
    for _ in range(2): task.run()
    return round(peak.status_megabytes("VmHWM")-before,1), round(peak.status_megabytes("RssFile")-f0,1)
if __name__=="__main__":
    for case in (memory.CASES[0],memory.CASES[2]):
        for c in memory.COMPETITORS:
            print(case.label,c.name,{f"warm T={T} B={B}":in_fresh_process(1,variant,c,case,T,B) for T,B in ((2,1),(2,case.B),(8,case.B))},flush=True)
