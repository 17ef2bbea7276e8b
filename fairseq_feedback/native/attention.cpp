// Attention of one query a row over slots, equations (5) and (16) of ../kernels/README.md.
#include <vector>

#include "vectors.h"

struct Attention {  // M = zeros + slots, and one more with a slot of its own
    const float* query;     // (R * beams, H, D)
    const float* keys;      // (R, H, slots, D), of which the last two dimensions are contiguous
    const float* values;    // as keys
    const uint8_t* hidden;  // (R, 1 or beams, M), or null
    const float* added;     // (R, H, beams, M) to the scores, or null
    const float* zero_key;  // (H, D) of all zeros, or null
    const float* zero_value;
    const float* own_key;  // (R * beams, H, D) of the slot that a row has for itself, or null
    const float* own_value;
    float* out;      // (R * beams, H, D)
    float* weights;  // (R, H, beams, M)
    int64_t rows, heads, beams, zeros, slots, width;
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

static void attend_row(const Attention& a, int64_t r, int64_t h, int64_t beam, std::vector<int32_t>& seen,
                       std::vector<float>& scores) {
    const int64_t columns = a.zeros + a.slots + (a.own_key != nullptr), first = a.zeros, last = a.zeros + a.slots;
    const int64_t row = ((r * a.beams + beam) * a.heads + h) * a.width;
    const int64_t of_scores = ((r * a.heads + h) * a.beams + beam) * columns;
    const int64_t past = r * a.row_stride + h * a.head_stride;
    const float *query = a.query + row, *keys = a.keys + past, *values = a.values + past;
    const uint8_t* hidden = nullptr;
    if (a.hidden) hidden = a.hidden + (r * a.hidden_beams + (a.hidden_beams > 1 ? beam : 0)) * columns;
    int64_t count = 0;
    for (int64_t j = 0; j < columns; j++)
        if (!hidden || !hidden[j]) seen[count++] = j;

    const float scale = 1 / std::sqrt((float)a.width);
    const float of_zeros = a.zeros ? dot(query, a.zero_key + h * a.width, a.width) : 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t j = seen[i];
        const float score = j < first  ? of_zeros
                            : j < last ? dot(query, keys + (j - first) * a.width, a.width)
                                       : dot(query, a.own_key + row, a.width);
        scores[i] = score * scale + (a.added ? a.added[of_scores + j] : 0);
    }
    softmax(scores.data(), count);

    float *out = a.out + row, *weights = a.weights + of_scores, zeros_share = 0;
    std::memset(out, 0, a.width * sizeof(float));
    if (count < columns) std::memset(weights, 0, columns * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        const int64_t j = seen[i];
        weights[j] = scores[i];
        if (j < first)
            zeros_share += scores[i];
        else
            add(out, j < last ? values + (j - first) * a.width : a.own_value + row, scores[i], a.width);
    }
    if (a.zeros) add(out, a.zero_value + h * a.width, zeros_share, a.width);
}

extern "C" void feedback_attend(const float* query, const float* keys, const float* values, const uint8_t* hidden,
                                const float* added, const float* zero_key, const float* zero_value, const float* own_key,
                                const float* own_value, float* out, float* weights, int64_t rows, int64_t heads,
                                int64_t beams, int64_t zeros, int64_t slots, int64_t width, int64_t row_stride,
                                int64_t head_stride, int64_t hidden_beams) {
    const Attention a{query, keys, values, hidden, added, zero_key, zero_value, own_key, own_value, out, weights,
                      rows, heads, beams, zeros, slots, width, row_stride, head_stride, hidden_beams};
#pragma omp parallel if (rows * heads * beams * (zeros + slots) * width > MANY)
    {
        const int64_t columns = zeros + slots + 1;
        std::vector<int32_t> seen(columns);
        std::vector<float> scores(columns + LANES);
#pragma omp for collapse(2)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t h = 0; h < heads; h++)
                for (int64_t beam = 0; beam < beams; beam++) attend_row(a, r, h, beam, seen, scores);
    }
}
