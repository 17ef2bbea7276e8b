"""Tensors in, tensors out: the mathematics of the feedback decoder, without nn.Module and without fairseq.

Shapes, in every file of this package and of its callers:

    T  target steps            L  decoder layers
    S  source length           H  attention heads
    B  rows                    D  width of a head, C / H unless --decoder-head-dim says otherwise
       (sentences x beams)     F  feed-forward width
    C  embedding width         G  sets of memory keys: 1 shared by all layers, or L
    M  memory slots            N  memory slots before the first step; training stores one for
                                  all zero slots that Inputs counts
    A  = H · D                 P  slots that have relative positions or spans, at least those that a step sees

README.md in this folder has the equations that the code cites.
"""
