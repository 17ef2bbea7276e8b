"""The table of train.sh: bits per character, speed and size of its two models, with a sample of each.

    python examples/tiny_shakespeare/report.py tiny-shakespeare-run

Reads what fairseq printed; writes report.json beside it.
"""

import json
import os
import re
import sys

SYSTEMS = [("feedback", "feedback transformer"), ("transformer", "standard transformer")]


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: python examples/tiny_shakespeare/report.py FOLDER-OF-THE-RUN")
    out = sys.argv[1]
    report = [row(out, name, title) for name, title in SYSTEMS]
    path = os.path.join(out, "report.json")
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)
    columns = list(report[0])
    print("\n| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for values in report:
        print("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in values.values()) + " |")
    for name, title in SYSTEMS:
        print(f"\n{title}, after 'ROMEO:':\n")
        for line in sample(out, name).splitlines():
            print(f"  {line}")


def row(out, name, title):
    log = f"train-{name}.log"
    training = read(out, log)
    speeds = sorted(float(speed) for speed in re.findall(r"train_inner.* wps=([0-9.]+)", training))
    return {
        "model": title,
        "valid bits/char": bits(out, "valid", name),
        "test bits/char": bits(out, "test", name),
        "parameters": int(found(r"num\. shared model params: ([0-9,]+)", training, log).replace(",", "")),
        "training characters/s": round(speeds[len(speeds) // 2]) if speeds else "-",  # logged every 100 updates
        "training time": duration(float(found(r"done training in ([0-9.]+) seconds", training, log))),
    }


def bits(out, split, name):
    log = f"{split}-{name}.log"
    return round(float(found(r"Loss \(base 2\): ([0-9.]+)", read(out, log), log)), 3)


def sample(out, name):
    return found(r"\nD-0\t\S+\t(.*)", read(out, f"sample-{name}.txt"), f"sample-{name}.txt").replace("\u23ce", "\n")


def duration(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def found(pattern, text, name):
    match = re.search(pattern, text)
    if not match:
        sys.exit(f"error: {name} is incomplete: run train.sh again, to the end")
    return match[1]


def read(out, name):
    try:
        with open(os.path.join(out, name), encoding="utf-8") as f:
            return f.read()
    except OSError:
        sys.exit(f"error: {os.path.join(out, name)} is missing: run train.sh to the end")


if __name__ == "__main__":
    main()
