// Steps of training, of rows that are few: attention of a single query, equations (5) and (9) of ../kernels/README.md, and
// layer norms with the sums beside them.
#include <algorithm>
#include <vector>

#include "vectors.h"

constexpr float EPSILON = 1e-5f;

struct Slots {  // seen by R queries of D numbers, each with slots of its own
    const float* keys;    // (R, slots, D)
    const float* values;  // as keys
    const uint8_t* keep;  // (R, count), rows `keep_stride` apart: which weights dropout leaves; or null
    int64_t rows, slots, width, first;
    int64_t count, again;  // are seen; the first one stands for `again` of these, too
    int64_t keep_stride;
};

struct Attend {
    Slots slots;
    const float* query;  // (R, D), scaled
    const float* added;  // (R, count) to the scores, or null
    float* out;          // (R, D)
    float* weights;      // (R, count), without dropout
};

struct AttendBack {
    Slots slots;
    const float* d_out;    // (R, D)
    const float* weights;  // (R, count), without dropout
    float* kept;           // (R, D): a copy of d_out
    float* d_scores;       // (R, count)
    float* d_query;        // (R, D), or null
};

// N registers of a vector of `width` numbers, the last of them filled up with zeros.
template <int N>
static inline void read(__m512* to, const float* from, __mmask16 last) {
#pragma GCC unroll 8
    for (int n = 0; n < N - 1; n++) to[n] = _mm512_loadu_ps(from + n * LANES);
    to[N - 1] = _mm512_maskz_loadu_ps(last, from + (N - 1) * LANES);
}

template <int N>
static inline void write(float* to, const __m512* from, __mmask16 last) {
#pragma GCC unroll 8
    for (int n = 0; n < N - 1; n++) _mm512_storeu_ps(to + n * LANES, from[n]);
    _mm512_mask_storeu_ps(to + (N - 1) * LANES, last, from[N - 1]);
}

template <int N>
static void products(const Slots& s, const float* vectors, const float* x, float* out) {
    const __mmask16 last = lanes(s.width - (N - 1) * LANES);
    __m512 of_x[N], of_slot[N];
    read<N>(of_x, x, last);
    for (int64_t j = s.again; j < s.count; j++) {
        read<N>(of_slot, vectors + (j - s.again) * s.width, last);
        __m512 even = _mm512_mul_ps(of_x[0], of_slot[0]), odd = _mm512_setzero_ps();
#pragma GCC unroll 8
        for (int n = 1; n < N; n++) (n % 2 ? odd : even) = _mm512_fmadd_ps(of_x[n], of_slot[n], n % 2 ? odd : even);
        out[j] = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    }
    std::fill(out, out + s.again, out[s.again]);
}

// Of these numbers, those that dropout leaves.
static __mmask16 kept_of(__mmask16 here, const uint8_t* keep) {
    return _mm_mask_cmpneq_epi8_mask(here, _mm_maskz_loadu_epi8(here, keep), _mm_setzero_si128());
}

static float sum_of_kept(const float* weights, const uint8_t* keep, int64_t count) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t j = 0; j < count; j += LANES) {
        const __mmask16 here = lanes(count - j), left = keep ? kept_of(here, keep + j) : here;
        total = _mm512_add_ps(total, _mm512_maskz_loadu_ps(left, weights + j));
    }
    return _mm512_reduce_add_ps(total);
}

template <int N>
static void weighted_sum(const Slots& s, const float* vectors, const float* weights, const uint8_t* keep, float* out) {
    const __mmask16 last = lanes(s.width - (N - 1) * LANES);
    __m512 sums[N], of_slot[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) sums[n] = _mm512_setzero_ps();
    auto add = [&](float weight, int64_t slot) {
        read<N>(of_slot, vectors + slot * s.width, last);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[n] = _mm512_fmadd_ps(_mm512_set1_ps(weight), of_slot[n], sums[n]);
    };
    if (s.again) add(sum_of_kept(weights, keep, s.again), 0);
    for (int64_t j = s.again; j < s.count; j++)
        if (!keep || keep[j]) add(weights[j], j - s.again);
    write<N>(out, sums, last);
}

static const uint8_t* keep_of(const Slots& s, int64_t r) { return s.keep ? s.keep + r * s.keep_stride : nullptr; }

static int64_t offset(const Slots& s, int64_t r) { return (r * s.slots + s.first) * s.width; }

template <int N>
static void attend(const Attend& a, int64_t r, std::vector<float>& scores) {
    const Slots& s = a.slots;
    products<N>(s, s.keys + offset(s, r), a.query + r * s.width, scores.data());
    if (a.added)
        for (int64_t j = 0; j < s.count; j++) scores[j] += a.added[r * s.count + j];
    softmax(scores.data(), s.count);
    std::memcpy(a.weights + r * s.count, scores.data(), s.count * sizeof(float));
    weighted_sum<N>(s, s.values + offset(s, r), scores.data(), keep_of(s, r), a.out + r * s.width);
}

template <int N>
static void attend_back(const AttendBack& a, int64_t r, std::vector<float>& room) {
    const Slots& s = a.slots;
    const float *weights = a.weights + r * s.count, *d_out = a.d_out + r * s.width;
    float *d_scores = a.d_scores + r * s.count, *d = room.data();
    std::memcpy(a.kept + r * s.width, d_out, s.width * sizeof(float));
    products<N>(s, s.values + offset(s, r), d_out, d);
    if (const uint8_t* keep = keep_of(s, r))
        for (int64_t j = 0; j < s.count; j++) d[j] *= keep[j];
    __m512 total = _mm512_setzero_ps();
    for (int64_t j = 0; j < s.count; j += LANES) {
        const __mmask16 here = lanes(s.count - j);
        total = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(here, weights + j), _mm512_maskz_loadu_ps(here, d + j), total);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total));
    for (int64_t j = 0; j < s.count; j += LANES) {
        const __mmask16 here = lanes(s.count - j);
        const __m512 apart = _mm512_sub_ps(_mm512_maskz_loadu_ps(here, d + j), mean);
        _mm512_mask_storeu_ps(d_scores + j, here, _mm512_mul_ps(_mm512_maskz_loadu_ps(here, weights + j), apart));
    }
    if (a.d_query) weighted_sum<N>(s, s.keys + offset(s, r), d_scores, nullptr, a.d_query + r * s.width);
}

template <class Arguments>
static void for_rows(const Arguments& a, void (*const functions[])(const Arguments&, int64_t, std::vector<float>&)) {
    const Slots& s = a.slots;
    const auto function = functions[(s.width + LANES - 1) / LANES - 1];
#pragma omp parallel if (s.rows * (s.count - s.again) * s.width > MANY)
    {
        std::vector<float> room(s.count + LANES);
#pragma omp for
        for (int64_t r = 0; r < s.rows; r++) function(a, r, room);
    }
}

// D is up to 128.
extern "C" void feedback_attend_step(const float* keys, const float* values, const uint8_t* keep, const float* query,
                                     const float* added, float* out, float* weights, int64_t rows, int64_t slots,
                                     int64_t width, int64_t first, int64_t count, int64_t again, int64_t keep_stride) {
    const Attend a{{keys, values, keep, rows, slots, width, first, count, again, keep_stride}, query, added, out, weights};
    static void (*const functions[])(const Attend&, int64_t, std::vector<float>&) = {
        attend<1>, attend<2>, attend<3>, attend<4>, attend<5>, attend<6>, attend<7>, attend<8>};
    for_rows(a, functions);
}

extern "C" void feedback_attend_step_back(const float* keys, const float* values, const uint8_t* keep, const float* d_out,
                                          const float* weights, float* kept, float* d_scores, float* d_query,
                                          int64_t rows, int64_t slots, int64_t width, int64_t first, int64_t count,
                                          int64_t again, int64_t keep_stride) {
    const AttendBack a{{keys, values, keep, rows, slots, width, first, count, again, keep_stride}, d_out, weights, kept,
                       d_scores, d_query};
    static void (*const functions[])(const AttendBack&, int64_t, std::vector<float>&) = {
        attend_back<1>, attend_back<2>, attend_back<3>, attend_back<4>,
        attend_back<5>, attend_back<6>, attend_back<7>, attend_back<8>};
    for_rows(a, functions);
}

// x, z and what is written, the sum and its norm, are (rows, width). Of z dropout leaves what `keep` says, or all if it is
// null; without a norm's weight (width) there is none.
extern "C" void feedback_add_norm(const float* all_x, const float* all_z, const uint8_t* all_keep, const float* weight,
                                  const float* bias, float* all_sums, float* all_normed, int64_t rows, int64_t width) {
#pragma omp parallel for if (8 * rows * width > MANY)
    for (int64_t row = 0; row < rows; row++) {
        const float *x = all_x + row * width, *z = all_z + row * width;
        const uint8_t* keep = all_keep ? all_keep + row * width : nullptr;
        float *sum = all_sums + row * width, *normed = all_normed + row * width;
        __m512 total = _mm512_setzero_ps(), squares = total;
        for (int64_t k = 0; k < width; k += LANES) {
            const __mmask16 here = lanes(width - k);
            const __mmask16 left = keep ? kept_of(here, keep + k) : here;
            const __m512 of_x = _mm512_maskz_loadu_ps(here, x + k);
            const __m512 y = _mm512_mask_add_ps(of_x, left, of_x, _mm512_maskz_loadu_ps(left, z + k));
            _mm512_mask_storeu_ps(sum + k, here, y);
            total = _mm512_add_ps(total, y);
        }
        if (!weight) continue;
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / width);
        for (int64_t k = 0; k < width; k += LANES) {
            const __mmask16 here = lanes(width - k);
            const __m512 apart = _mm512_maskz_sub_ps(here, _mm512_maskz_loadu_ps(here, sum + k), mean);
            squares = _mm512_fmadd_ps(apart, apart, squares);
        }
        const __m512 rstd = _mm512_set1_ps(1 / std::sqrt(_mm512_reduce_add_ps(squares) / width + EPSILON));
        for (int64_t k = 0; k < width; k += LANES) {
            const __mmask16 here = lanes(width - k);
            const __m512 apart = _mm512_sub_ps(_mm512_maskz_loadu_ps(here, sum + k), mean);
            const __m512 w = _mm512_maskz_loadu_ps(here, weight + k), b = _mm512_maskz_loadu_ps(here, bias + k);
            _mm512_mask_storeu_ps(normed + k, here, _mm512_fmadd_ps(_mm512_mul_ps(apart, rstd), w, b));
        }
    }
}

// From the gradient (rows, width) of what a norm gave to that of what it has read, x, plus what is added, if that is not
// null; mean and rstd (rows) are the norm's.
extern "C" void feedback_norm_back(const float* all_d, const float* all_x, const float* means, const float* rstds,
                                   const float* weight, const float* all_added, float* all_out, int64_t rows,
                                   int64_t width) {
#pragma omp parallel for if (8 * rows * width > MANY)
    for (int64_t row = 0; row < rows; row++) {
        const float *d = all_d + row * width, *x = all_x + row * width;
        const float* added = all_added ? all_added + row * width : nullptr;
        float* out = all_out + row * width;
        const __m512 mean = _mm512_set1_ps(means[row]), rstd = _mm512_set1_ps(rstds[row]);
        __m512 total = _mm512_setzero_ps(), along = total;
        for (int64_t k = 0; k < width; k += LANES) {
            const __mmask16 here = lanes(width - k);
            const __m512 g = _mm512_mul_ps(_mm512_maskz_loadu_ps(here, d + k), _mm512_maskz_loadu_ps(here, weight + k));
            const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(here, x + k), mean), rstd);
            total = _mm512_add_ps(total, g);
            along = _mm512_fmadd_ps(g, normed, along);
        }
        const __m512 of_mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / width);
        const __m512 of_rstd = _mm512_set1_ps(_mm512_reduce_add_ps(along) / width);
        for (int64_t k = 0; k < width; k += LANES) {
            const __mmask16 here = lanes(width - k);
            const __m512 g = _mm512_mul_ps(_mm512_maskz_loadu_ps(here, d + k), _mm512_maskz_loadu_ps(here, weight + k));
            const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(here, x + k), mean), rstd);
            __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_sub_ps(g, of_mean), _mm512_mul_ps(normed, of_rstd)), rstd);
            if (added) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(here, added + k));
            _mm512_mask_storeu_ps(out + k, here, y);
        }
    }
}
