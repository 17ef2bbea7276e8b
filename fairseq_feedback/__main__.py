"""`python -m fairseq_feedback` is the command `fairseq-feedback`."""

from fairseq_feedback.tools.command import main

if __name__ == "__main__":
    main()
