"""`python -m benchmarks.peers`."""

if __name__ == "__main__":  # the competitors' processes import this file, and shall load nothing with it
    from benchmarks.peers.command import main

    raise SystemExit(main())
