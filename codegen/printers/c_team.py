"""The C text of threads: a function runs on several, each with its part of the rows, and they meet between its phases.

Threads are started for a call and end with it: a start costs some hundredths of a millisecond, and calls with less work
than makes up for it run on one. So there is no pool that an exit or another thread's call could find in use.
"""

TEAM = r"""
#ifndef LEAST_WORK
#define LEAST_WORK 1e7 /* operations that are worth a thread */
#endif
#define MOST_THREADS 256

static long most_threads = 1, busy = 0;

/* How many threads the calls of this library may use, all of them together. */
void use_threads(long threads);
void use_threads(long threads)
{
    most_threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
}

#if defined(_WIN32)
void meet(struct team *team)
{
    (void)team;
}

void run_team(
    part_function *part, real *const *memory, const real *parameters, const real *direction, real *gradient, long T,
    long batch, double operations, long most)
{
    struct team team = {1, 0, 0, 1};
    (void)operations;
    (void)most;
    part(memory, parameters, direction, gradient, T, batch, 0, &team);
}
#else
#include <pthread.h>
#include <sched.h>

/* Until `number` is other than `old`: soon in most cases, so the core is offered to others only after some time. */
static void wait_while(const long *number, long old)
{
    for (long turns = 0; __atomic_load_n(number, __ATOMIC_ACQUIRE) == old; ++turns) {
        if (turns > 2000) {
            sched_yield();
        }
    }
}

/* Returns when all threads of the team are here. */
void meet(struct team *team)
{
    if (team->threads == 1) {
        return;
    }
    const long round = __atomic_load_n(&team->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team->waiting, 1, __ATOMIC_ACQ_REL) == team->threads) {
        __atomic_store_n(&team->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->round, round + 1, __ATOMIC_RELEASE);
    } else {
        wait_while(&team->round, round);
    }
}

struct member {
    part_function *part;
    real *const *memory;
    const real *parameters, *direction;
    real *gradient;
    long T, batch, thread;
    struct team *team;
};

static void *run_member(void *argument)
{
    const struct member *m = argument;
    wait_while(&m->team->started, 0);
    m->part(m->memory, m->parameters, m->direction, m->gradient, m->T, m->batch, m->thread, m->team);
    return NULL;
}

/* `operations`: of one step of one sequence; `most`: how many threads would have enough rows. Threads that other calls
   use are not taken. */
void run_team(
    part_function *part, real *const *memory, const real *parameters, const real *direction, real *gradient, long T,
    long batch, double operations, long most)
{
    struct team team = {1, 0, 0, 0};
    const double worth = operations * (double)T * (double)batch / LEAST_WORK;
    long wanted = most_threads;
    wanted = wanted > most ? most : wanted;
    wanted = (double)wanted > worth ? (long)worth : wanted;
    wanted = wanted < 1 ? 1 : wanted;
    const long others = __atomic_fetch_add(&busy, wanted, __ATOMIC_ACQ_REL);
    const long left = most_threads - others > 1 ? most_threads - others : 1;
    const long threads = wanted < left ? wanted : left;
    __atomic_fetch_sub(&busy, wanted - threads, __ATOMIC_ACQ_REL);
    struct member members[MOST_THREADS];
    pthread_t others_of_team[MOST_THREADS];
    for (; team.threads < threads; ++team.threads) {
        const long thread = team.threads;
        members[thread] = (struct member){part, memory, parameters, direction, gradient, T, batch, thread, &team};
        if (pthread_create(&others_of_team[thread], NULL, run_member, &members[thread])) {
            break;
        }
    }
    __atomic_store_n(&team.started, 1, __ATOMIC_RELEASE);
    part(memory, parameters, direction, gradient, T, batch, 0, &team);
    for (long thread = 1; thread < team.threads; ++thread) {
        pthread_join(others_of_team[thread], NULL);
    }
    __atomic_fetch_sub(&busy, threads, __ATOMIC_ACQ_REL);
}
#endif

/* target += the sums of the other threads, which lie one after the other; each thread does its part of the rows. */
void add_partial_sums(
    long rows, long columns, real *target, long target_stride, const real *partial, long thread, struct team *team)
{
    for (long row = share(rows, thread, team); row < share(rows, thread + 1, team); ++row) {
        for (long other = 0; other + 1 < team->threads; ++other) {
            const real *source = partial + (other * rows + row) * columns;
            for (long column = 0; column < columns; ++column) {
                target[row * target_stride + column] += source[column];
            }
        }
    }
}
"""
