/* Matrix products over 8x1 blocks, and the functions between them; a part of supernet.c. */

/* LANES outputs of n frames; n is known where this is called, so sums stay in registers. */
INLINE void rows8(const Matrix *m, int g, const float *x, size_t sx, float *y, size_t sy, const int n) {
  v8 sum[LANES];
  for (int t = 0; t < n; t++) sum[t] = *(const v8 *)(m->bias + LANES * g);
  const float *row[LANES];
  for (int t = 0; t < n; t++) row[t] = x + t * sx;
  const uint16_t *column = m->column + m->start[g], *end = m->column + m->start[g + 1];
  for (const weight *from = m->values + (size_t)LANES * m->start[g]; column < end; column++, from += LANES) {
    v8 w = load8(from);
    size_t c = *column;
    for (int t = 0; t < n; t++) sum[t] += w * row[t][c];
  }
  for (int t = 0; t < n; t++) *(v8 *)(y + t * sy + LANES * g) = sum[t];
}

static void halves_times(const Matrix *m, const float *x, size_t sx, int T, float *y, size_t sy) {
  int groups = m->rows / LANES;
  for (int t = 0, n; t < T; t += n) {
    n = T - t >= 8 ? 8 : T - t >= 4 ? 4 : T - t >= 2 ? 2 : 1;
    const float *from = x + t * sx;
    float *to = y + t * sy;
    for (int g = 0; g < groups; g++) {
      if (n == 8) rows8(m, g, from, sx, to, sy, 8);
      else if (n == 4) rows8(m, g, from, sx, to, sy, 4);
      else if (n == 2) rows8(m, g, from, sx, to, sy, 2);
      else rows8(m, g, from, sx, to, sy, 1);
    }
  }
}

/* int8: every frame is quantized by its own largest value, every output's weights by theirs. */

#ifdef __AVX2__
INLINE void transpose8(__m256 r[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
    b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
    b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
    b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}
#endif

/* Frames x[n][C] -> codes[C][8] and the step of each frame's codes; frames behind n are 0. */
static void quantize(const float *x, size_t sx, int n, int C, int16_t *codes, float *step) {
  float inverse[8] = {0};
  for (int t = 0; t < 8; t++) {
    float most = 0;
    if (t < n)
      for (int i = 0; i < C; i++) {
        float a = fabsf(x[t * sx + i]);
        most = a > most ? a : most;
      }
    step[t] = most / 127.0f;
    inverse[t] = most > 0 ? 127.0f / most : 0.0f;
  }
#ifdef __AVX2__
  for (int i = 0; i < C; i += 8) {
    __m256 r[8];
    for (int t = 0; t < 8; t++)
      r[t] = t < n ? _mm256_round_ps(_mm256_mul_ps(_mm256_loadu_ps(x + t * sx + i), _mm256_set1_ps(inverse[t])),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                   : _mm256_setzero_ps();
    transpose8(r);
    for (int k = 0; k < 8; k++) {
      __m256i wide = _mm256_cvtps_epi32(r[k]);
      __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
      _mm_storeu_si128((__m128i *)(codes + 8 * (i + k)), packed);
    }
  }
#else
  for (int i = 0; i < C; i++)
    for (int t = 0; t < 8; t++) codes[8 * i + t] = t < n ? (int16_t)lrintf(x[t * sx + i] * inverse[t]) : 0;
#endif
}

INLINE void bytes8(const Matrix *m, int g, const int16_t *codes, const float *step, int n, float *y, size_t sy) {
  const float *scale = m->scale + LANES * g, *bias = m->bias + LANES * g;
#ifdef __AVX2__
  __m256i sum[8];
  for (int r = 0; r < 8; r++) sum[r] = _mm256_setzero_si256();
  for (int32_t i = m->start[g]; i < m->start[g + 1]; i += 2) {
    __m128i a = _mm_loadu_si128((const __m128i *)(codes + 8 * m->column[i]));
    __m128i b = _mm_loadu_si128((const __m128i *)(codes + 8 * m->column[i + 1]));
    __m256i x = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
    int32_t w[8] __attribute__((aligned(32)));
    _mm256_store_si256((__m256i *)w, _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(m->bytes + (size_t)LANES * i))));
    for (int r = 0; r < 8; r++) sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(x, _mm256_set1_epi32(w[r])));
  }
  __m256 f[8];
  for (int r = 0; r < 8; r++) f[r] = _mm256_cvtepi32_ps(sum[r]);
  transpose8(f);
  for (int t = 0; t < n; t++)
    *(v8 *)(y + t * sy + LANES * g) = (v8)f[t] * step[t] * *(const v8 *)scale + *(const v8 *)bias;
#else
  int32_t sum[8][8] = {{0}};
  for (int32_t i = m->start[g]; i < m->start[g + 1]; i += 2) {
    const int16_t *a = codes + 8 * m->column[i], *b = codes + 8 * m->column[i + 1];
    const int8_t *w = m->bytes + (size_t)LANES * i;
    for (int r = 0; r < 8; r++)
      for (int t = 0; t < 8; t++) sum[r][t] += a[t] * w[2 * r] + b[t] * w[2 * r + 1];
  }
  for (int t = 0; t < n; t++)
    for (int r = 0; r < 8; r++) y[t * sy + LANES * g + r] = (float)sum[r][t] * step[t] * scale[r] + bias[r];
#endif
}

static void bytes_times(const Matrix *m, const float *x, size_t sx, int T, float *y, size_t sy, int16_t *codes) {
  float step[8];
  for (int t = 0; t < T; t += 8) {
    int n = T - t < 8 ? T - t : 8;
    quantize(x + t * sx, sx, n, m->columns, codes, step);
    for (int g = 0; g < m->rows / LANES; g++) bytes8(m, g, codes, step, n, y + t * sy, sy);
  }
}

/* y[T][R] = x[T][C] W' + b; sx and sy are the distances of frames; codes: room for 8 C numbers. */
static void times(const Matrix *m, const float *x, size_t sx, int T, float *y, size_t sy, int16_t *codes) {
  if (m->kind == BYTES) bytes_times(m, x, sx, T, y, sy, codes);
  else halves_times(m, x, sx, T, y, sy);
}

/* e^x to 2e-6 of its value, of steps that compilers turn into vectors. */
INLINE float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  int32_t n = (int32_t)(x * 1.44269504f + 128.5f) - 128;
  float r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  union { int32_t i; float f; } power = {(n + 127) << 23};
  return (p * r * r + r + 1.0f) * power.f;
}

static void silu(float *x, int count) {
  for (int i = 0; i < count; i++) x[i] = x[i] / (1.0f + fast_exp(-x[i]));
}

/* x (1 + erf(x / sqrt 2)) / 2; erf to 2e-7 (Abramowitz and Stegun 7.1.26). */
static void gelu(float *x, int count) {
  for (int i = 0; i < count; i++) {
    float z = x[i] * 0.70710678f, a = fabsf(z), t = 1.0f / (1.0f + 0.3275911f * a);
    float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    float e = 1.0f - p * fast_exp(-a * a);
    x[i] = 0.5f * x[i] * (1.0f + (z < 0 ? -e : e));
  }
}

static void norm(const Norm *n, const float *x, int T, int D, float *y) {
  for (int t = 0; t < T; t++, x += D, y += D) {
    float sum = 0, squares = 0;
    for (int i = 0; i < D; i++) sum += x[i];
    float mean = sum / (float)D;
    for (int i = 0; i < D; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(squares / (float)D + 1e-5f);
    for (int i = 0; i < D; i++) y[i] = (x[i] - mean) * scale * n->weight[i] + n->bias[i];
  }
}

static void add(float *x, const float *y, int count, float share) {
  for (int i = 0; i < count; i++) x[i] += share * y[i];
}
