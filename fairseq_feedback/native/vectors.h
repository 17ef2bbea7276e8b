// Sixteen floats at once.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));

constexpr int LANES = 16;
// Multiplications that are worth a second thread, and a wait for it: some ten microseconds. Where others use the cores, the
// wait is long.
constexpr int64_t MANY = 1 << 19;
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

// Of what is left of a row, as many as there are.
static inline __mmask16 lanes(int64_t left) {
    return left >= LANES ? 0xffff : left <= 0 ? 0 : _cvtu32_mask16((1u << left) - 1);
}

static inline floats load(const float* p) {
    floats x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

static inline void store(float* p, floats x) { std::memcpy(p, &x, sizeof x); }

static inline floats all(float x) { return x - (floats){}; }

static inline floats larger(floats a, floats b) { return a > b ? a : b; }

static inline float sum(floats x) { return _mm512_reduce_add_ps((__m512)x); }

static inline float largest(floats x) {
    float m = x[0];
    for (int i = 1; i < LANES; i++) m = x[i] > m ? x[i] : m;
    return m;
}

// e^x of numbers that are not above 0, to a few units in the last place; 0 below -87. NaN stays NaN.
static inline floats exponential(floats x) {
    const floats kept = x < all(-87.0f) ? all(-87.0f) : x;
    const floats shift = all(12582912.0f);  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const floats n = (kept * 1.44269504f + shift) - shift;
    const floats r = (kept - n * 0.693359375f) + n * 2.12194440e-4f;
    floats p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const ints bits = (__builtin_convertvector(n, ints) + 127) << 23;
    floats power;
    std::memcpy(&power, &bits, sizeof power);
    return x < all(-87.0f) ? (floats){} : p * power;
}

// Scores -> weights, in place; `count` is followed by room up to a multiple of LANES.
static inline void softmax(float* scores, int64_t count) {
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t i = count; i < padded; i++) scores[i] = LOWEST;
    floats highest = load(scores), total = {};
    for (int64_t i = LANES; i < padded; i += LANES) highest = larger(load(scores + i), highest);
    const float top = largest(highest);
    for (int64_t i = 0; i < padded; i += LANES) {
        const floats e = exponential(load(scores + i) - top);
        store(scores + i, e);
        total += e;
    }
    const float share = 1 / sum(total);
    for (int64_t i = 0; i < padded; i += LANES) store(scores + i, load(scores + i) * share);
}
