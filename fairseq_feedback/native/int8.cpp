// Products of 8 bits: rows of floats are rounded, each by its own scale, and multiplied with a packed weight.
//
// A tile is 12 rows times 32 outputs, whose sums stay in registers. Both sides are laid out in the order in which tiles
// read them: four inputs at a time, as the instruction takes them.
#include <algorithm>
#include <vector>

#include "vectors.h"

constexpr int64_t ROWS = 12, OUTPUTS = 32, BLOCK = 20;  // BLOCK tiles of rows stay in the cache while weights go by
constexpr float LEVELS = 127, TINY = 1e-12f;

struct Int8Product {
    const float* x;           // (rows, inputs)
    const int8_t* weight;     // (outputs / 32, inputs / 4, 32, 4), filled up with zeros
    const float* scales;      // (outputs), of the weight
    const int32_t* too_much;  // (outputs): 128 times the sum of its weights, as rows are rounded to 1 … 255
    const float* bias;        // (outputs), or null
    float* y;                 // (rows, outputs)
    int64_t rows, inputs, outputs;  // inputs: a multiple of 4
    int64_t relu;                   // whether negative outputs become 0
    uint8_t* rounded;               // room for (rows / 12, inputs / 4, 12, 4)
    float* row_scales;              // room for (rows)
};

static void round_row(const Int8Product& p, int64_t row) {
    const float* x = p.x + row * p.inputs;
    __m512 most = _mm512_setzero_ps(), zero = most;
    for (int64_t k = 0; k < p.inputs; k += LANES) {
        const __mmask16 here = lanes(p.inputs - k);
        const __m512 values = _mm512_maskz_loadu_ps(here, x + k);
        most = _mm512_max_ps(most, _mm512_abs_ps(values));
        zero = _mm512_fmadd_ps(values, _mm512_setzero_ps(), zero);
    }
    const float scale = std::max(_mm512_reduce_max_ps(most), TINY);
    p.row_scales[row] = scale / LEVELS + _mm512_reduce_add_ps(zero);  // NaN of a row that is not finite
    const __m512 factor = _mm512_set1_ps(LEVELS / scale);
    uint8_t* to = p.rounded + (row / ROWS * p.inputs * ROWS) + row % ROWS * 4;
    for (int64_t k = 0; k < p.inputs; k += LANES) {
        const int64_t count = std::min<int64_t>(LANES, p.inputs - k);
        const __m512 values = _mm512_maskz_loadu_ps(lanes(count), x + k);
        const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(values, factor)), _mm512_set1_epi32(128));
        int32_t fours[4];
        _mm_storeu_si128((__m128i*)fours, _mm512_cvtepi32_epi8(whole));
        for (int64_t i = 0; i < count / 4; i++) std::memcpy(to + (k + 4 * i) * ROWS, fours + i, 4);
    }
}

static void finish(const Int8Product& p, int64_t row, int64_t output, __m512i sums) {
    const __mmask16 here = lanes(p.outputs - output);
    if (!here) return;
    const __m512i whole = _mm512_sub_epi32(sums, _mm512_maskz_loadu_epi32(here, p.too_much + output));
    const __m512 scale = _mm512_mul_ps(_mm512_maskz_loadu_ps(here, p.scales + output), _mm512_set1_ps(p.row_scales[row]));
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
    if (p.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(here, p.bias + output));
    if (p.relu) y = _mm512_max_ps(_mm512_setzero_ps(), y);  // NaN stays NaN
    _mm512_mask_storeu_ps(p.y + row * p.outputs + output, here, y);
}

// The intrinsic's own code copies every sum.
static inline void multiply_add(__m512i& sums, __m512i of_row, __m512i weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(of_row), "v"(weights));
}

template <int N>
static void tile(const Int8Product& p, int64_t row, int64_t output) {
    const uint8_t* x = p.rounded + row * p.inputs;
    const int8_t* w = p.weight + output * p.inputs;
    __m512i sums[N][2];
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) sums[n][0] = sums[n][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < p.inputs; k += 4, x += 4 * ROWS, w += 4 * OUTPUTS) {
        const __m512i low = _mm512_loadu_si512(w), high = _mm512_loadu_si512(w + 64);
#pragma GCC unroll 12
        for (int n = 0; n < N; n++) {
            int32_t four;
            std::memcpy(&four, x + 4 * n, 4);
            const __m512i of_row = _mm512_set1_epi32(four);
            multiply_add(sums[n][0], of_row, low);
            multiply_add(sums[n][1], of_row, high);
        }
    }
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) {
        finish(p, row + n, output, sums[n][0]);
        finish(p, row + n, output + LANES, sums[n][1]);
    }
}

typedef void (*Tile)(const Int8Product&, int64_t, int64_t);
static const Tile TILES[] = {tile<1>, tile<2>, tile<3>, tile<4>,  tile<5>,  tile<6>,
                             tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

extern "C" void feedback_int8_product(const float* x, const int8_t* weight, const float* scales, const int32_t* too_much,
                                      const float* bias, float* y, int64_t rows, int64_t inputs, int64_t outputs,
                                      int64_t relu) {
    // Kept from call to call: to ask for it anew takes as long as a small product.
    static thread_local std::vector<uint8_t> rounded;
    static thread_local std::vector<float> row_scales;
    rounded.resize(std::max<size_t>(rounded.size(), (rows + ROWS - 1) / ROWS * ROWS * inputs));
    row_scales.resize(std::max<size_t>(row_scales.size(), rows));
    const Int8Product p{x,      weight,  scales, too_much,       bias,             y, rows,
                        inputs, outputs, relu,   rounded.data(), row_scales.data()};
#pragma omp parallel if (rows * inputs * outputs > 4 * MANY)
    {
#pragma omp for
        for (int64_t row = 0; row < rows; row++) round_row(p, row);
        for (int64_t start = 0; start < rows; start += ROWS * BLOCK) {
            const int64_t end = std::min(rows, start + ROWS * BLOCK);
#pragma omp for nowait
            for (int64_t output = 0; output < outputs; output += OUTPUTS)
                for (int64_t row = start; row < end; row += ROWS) TILES[std::min(ROWS, end - row) - 1](p, row, output);
        }
    }
}
