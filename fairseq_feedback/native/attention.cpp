// Attention of one query a row over slots, equations (5) and (16) of ../kernels/README.md.
#include <vector>

#include "vectors.h"

struct Attention {
    const float* query;      // (R * beams, H, D)
    const float* keys;       // (R, H, M, D), of which the last two dimensions are contiguous
    const float* values;     // as keys
    const uint8_t* hidden;   // (R, 1 or beams, M) and here and below one M more with a slot of its own; or null
    const float* positions;  // (M, D) added to the keys, or null
    const float* spans;      // (H, M) added to the scores, or null
    const float* own_key;    // (R * beams, H, D), the slot that a row has for itself, or null
    const float* own_value;
    float* out;              // (R * beams, H, D)
    float* weights;          // (R, H, beams, M), or null
    int64_t rows, heads, beams, slots, width;
    int64_t row_stride, head_stride;  // of keys and values
    int64_t hidden_beams;
};

static float dot(const float* a, const float* b, int64_t width) {
    floats s0 = {}, s1 = {};
    int64_t d = 0;
    for (; d + 2 * LANES <= width; d += 2 * LANES) {
        s0 += load(a + d) * load(b + d);
        s1 += load(a + d + LANES) * load(b + d + LANES);
    }
    float s = 0;
    for (; d < width; d++) s += a[d] * b[d];
    return s + sum(s0 + s1);
}

static void add(float* out, const float* x, float weight, int64_t width) {
    int64_t d = 0;
    for (; d + LANES <= width; d += LANES) store(out + d, load(out + d) + load(x + d) * weight);
    for (; d < width; d++) out[d] += x[d] * weight;
}

// Scores -> weights, in place; `count` is followed by room up to a multiple of LANES.
static void softmax(float* scores, int64_t count) {
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

static void attend_row(const Attention& a, int64_t r, int64_t h, int64_t beam, std::vector<int32_t>& seen,
                       std::vector<float>& scores) {
    const int64_t all_slots = a.slots + (a.own_key != nullptr);
    const int64_t row = ((r * a.beams + beam) * a.heads + h) * a.width;
    const float *query = a.query + row, *keys = a.keys + r * a.row_stride + h * a.head_stride;
    const float* values = a.values + r * a.row_stride + h * a.head_stride;
    const uint8_t* hidden =
        a.hidden ? a.hidden + (r * a.hidden_beams + (a.hidden_beams > 1 ? beam : 0)) * all_slots : nullptr;
    int64_t count = 0;
    for (int64_t j = 0; j < a.slots; j++)
        if (!hidden || !hidden[j]) seen[count++] = j;
    const float scale = 1 / std::sqrt((float)a.width);
    for (int64_t i = 0; i < count; i++) {
        const int64_t j = seen[i];
        float score = dot(query, keys + j * a.width, a.width);
        if (a.positions) score += dot(query, a.positions + j * a.width, a.width);
        scores[i] = score * scale + (a.spans ? a.spans[h * all_slots + j] : 0);
    }
    int64_t used = count;
    if (a.own_key) {
        float score = dot(query, a.own_key + row, a.width);
        if (a.positions) score += dot(query, a.positions + a.slots * a.width, a.width);
        scores[used++] = score * scale + (a.spans ? a.spans[h * all_slots + a.slots] : 0);
    }
    softmax(scores.data(), used);
    float* out = a.out + row;
    std::memset(out, 0, a.width * sizeof(float));
    for (int64_t i = 0; i < count; i++) add(out, values + seen[i] * a.width, scores[i], a.width);
    if (a.own_key) add(out, a.own_value + row, scores[count], a.width);
    if (a.weights) {
        float* weights = a.weights + ((r * a.heads + h) * a.beams + beam) * all_slots;
        std::memset(weights, 0, all_slots * sizeof(float));
        for (int64_t i = 0; i < count; i++) weights[seen[i]] = scores[i];
        if (a.own_key) weights[a.slots] = scores[count];
    }
}

extern "C" void feedback_attend(const Attention* a) {
#pragma omp parallel
    {
        std::vector<int32_t> seen(a->slots);
        std::vector<float> scores(a->slots + 1 + LANES);
#pragma omp for collapse(2)
        for (int64_t r = 0; r < a->rows; r++)
            for (int64_t h = 0; h < a->heads; h++)
                for (int64_t beam = 0; beam < a->beams; beam++) attend_row(*a, r, h, beam, seen, scores);
    }
}
