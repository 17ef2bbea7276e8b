// Of long rows, the vocabulary's scores: the logarithms of their softmax, and the largest of them.
#include <algorithm>

#include "vectors.h"

constexpr int64_t GROUP = 4 * LANES;

static bool any_above(const float* x, floats bar) {
    const ints above = (load(x) > bar) | (load(x + LANES) > bar) | (load(x + 2 * LANES) > bar) | (load(x + 3 * LANES) > bar);
    int32_t any = 0;
    for (int i = 0; i < LANES; i++) any |= above[i];
    return any;
}

// Keeps the k largest so far, in order: most groups of numbers have none that is larger than the last of these. What is not
// a number is never among them; where there are too few numbers, the rest is minus infinity.
static void top_of_row(const float* x, float* values, int64_t* places, int64_t width, int64_t k) {
    std::fill(values, values + k, LOWEST);
    for (int64_t i = 0; i < k; i++) places[i] = i;
    for (int64_t start = 0; start < width; start += GROUP) {
        const int64_t end = std::min(start + GROUP, width);
        if (end - start == GROUP && !any_above(x + start, all(values[k - 1]))) continue;
        for (int64_t i = start; i < end; i++) {
            if (!(x[i] > values[k - 1])) continue;
            int64_t at = k - 1;
            for (; at > 0 && x[i] > values[at - 1]; at--) {
                values[at] = values[at - 1];
                places[at] = places[at - 1];
            }
            values[at] = x[i];
            places[at] = i;
        }
    }
}

static void log_softmax_of_row(float* x, int64_t width) {
    const int64_t whole = width / LANES * LANES;
    floats highest = all(LOWEST), sums = {};
    for (int64_t i = 0; i < whole; i += LANES) highest = larger(load(x + i), highest);
    float top = largest(highest), total = 0;
    for (int64_t i = whole; i < width; i++) top = std::max(top, x[i]);
    for (int64_t i = 0; i < whole; i += LANES) sums += exponential(load(x + i) - top);
    for (int64_t i = whole; i < width; i++) total += std::exp(x[i] - top);
    const float of_all = top + std::log(sum(sums) + total);
    for (int64_t i = 0; i < whole; i += LANES) store(x + i, load(x + i) - of_all);
    for (int64_t i = whole; i < width; i++) x[i] -= of_all;
}

// x (rows, width), in place.
extern "C" void feedback_log_softmax(float* x, int64_t rows, int64_t width) {
#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) log_softmax_of_row(x + row * width, width);
}

// x (rows, width) -> values and places (rows, k), the largest first.
extern "C" void feedback_top(const float* x, float* values, int64_t* places, int64_t rows, int64_t width, int64_t k) {
#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) top_of_row(x + row * width, values + row * k, places + row * k, width, k);
}

extern "C" int feedback_interface() { return 4; }
