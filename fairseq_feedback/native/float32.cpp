// Products of rows of floats with a packed weight. A tile is up to 12 rows times 32 outputs, whose sums stay in registers.
#include <algorithm>

#include "vectors.h"

constexpr int64_t ROWS = 12, OUTPUTS = 2 * LANES, BLOCK = 240;  // BLOCK rows stay in the cache while weights go by
constexpr int64_t AHEAD = 16;                                   // inputs whose weights are fetched before they are needed

struct Product {
    const float* x;       // (rows, inputs)
    const float* weight;  // (outputs / 32, inputs, 32), filled up with zeros
    const float* bias;    // (outputs), or null
    float* y;             // (rows, outputs)
    int64_t rows, inputs, outputs;
    int64_t relu;  // whether negative outputs become 0
};

static void finish(const Product& p, int64_t row, int64_t output, __m512 y) {
    const __mmask16 here = lanes(p.outputs - output);
    if (p.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(here, p.bias + output));
    if (p.relu) y = _mm512_max_ps(_mm512_setzero_ps(), y);  // NaN stays NaN
    _mm512_mask_storeu_ps(p.y + row * p.outputs + output, here, y);
}

template <int N>
static void tile(const Product& p, int64_t row, int64_t output) {
    const int64_t inputs = p.inputs;
    const float *x = p.x + row * inputs, *w = p.weight + output * inputs;
    __m512 sums[N][2];
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) sums[n][0] = sums[n][1] = _mm512_setzero_ps();
    for (int64_t k = 0; k < inputs; k++, w += OUTPUTS) {
        const __m512 low = _mm512_loadu_ps(w), high = _mm512_loadu_ps(w + LANES);
        _mm_prefetch((const char*)(w + AHEAD * OUTPUTS), _MM_HINT_T0);
        _mm_prefetch((const char*)(w + AHEAD * OUTPUTS + LANES), _MM_HINT_T0);
#pragma GCC unroll 12
        for (int n = 0; n < N; n++) {
            const __m512 of_row = _mm512_set1_ps(x[n * inputs + k]);
            sums[n][0] = _mm512_fmadd_ps(of_row, low, sums[n][0]);
            sums[n][1] = _mm512_fmadd_ps(of_row, high, sums[n][1]);
        }
    }
#pragma GCC unroll 12
    for (int n = 0; n < N; n++) {
        finish(p, row + n, output, sums[n][0]);
        if (output + LANES < p.outputs) finish(p, row + n, output + LANES, sums[n][1]);
    }
}

typedef void (*Tile)(const Product&, int64_t, int64_t);
static const Tile TILES[] = {tile<1>, tile<2>, tile<3>, tile<4>,  tile<5>,  tile<6>,
                             tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

extern "C" void feedback_float_product(const float* x, const float* weight, const float* bias, float* y, int64_t rows,
                                       int64_t inputs, int64_t outputs, int64_t relu) {
    const Product p{x, weight, bias, y, rows, inputs, outputs, relu};
#pragma omp parallel if (rows * inputs * outputs > MANY)
    for (int64_t start = 0; start < rows; start += BLOCK) {
        const int64_t count = std::min(BLOCK, rows - start), tiles = (count + ROWS - 1) / ROWS;
#pragma omp for nowait
        for (int64_t output = 0; output < outputs; output += OUTPUTS)
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t first = count * t / tiles, last = count * (t + 1) / tiles;
                TILES[last - first - 1](p, start + first, output);
            }
    }
}
