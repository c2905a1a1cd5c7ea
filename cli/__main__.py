"""The operator's command line as a program: quiet when it is interrupted while it is loaded."""

import importlib
import signal

if __name__ == "__main__":
    # Python's own answer to Ctrl-C is a traceback; `run` has a better one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module("cli.run").run()
