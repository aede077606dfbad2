"""peak.py OUT COMMAND...: runs the command and writes [seconds, most bytes of memory] of it to OUT, as JSON."""

import json
import os
import sys
import time


def main():
    start = time.perf_counter()
    process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    with open(sys.argv[1], "w") as file:
        json.dump([seconds, usage.ru_maxrss * 1024], file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
