"""The service as a program, quiet when it is interrupted before it serves."""

import importlib
import signal

if __name__ == "__main__":
    # Python's own answer to Ctrl-C is a traceback. gunicorn has a better one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module("server.start").main()
