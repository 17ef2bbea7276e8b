"""A prompt: a line in, its translations out."""

import sys
import time


def run(translator):
    """Until the end of the input. Without a terminal nothing but the answers is written."""
    typed = sys.stdin.isatty()
    if typed:
        print("A sentence, and Enter. Ctrl-D ends.")
    translator.answers("a")  # packs weights, which the first sentence would wait for
    while True:
        try:
            line = input("> " if typed else "").strip()
        except EOFError:
            if typed:
                print()
            return
        start = time.time()
        found = translator.answers(line) if line else []
        for score, text in found:
            print(f"{score:7.3f}  {text}")
        if typed and found:
            print(f"         ({time.time() - start:.2f} s)")
        sys.stdout.flush()
