/* The streaming step of core/models/conformer_ctc.py over blocks of 8 outputs x 1 input that are not
 * zero; see supernet.h.
 *
 * Vectors are GCC's and Clang's own (AVX2, AVX-512, NEON, or plain code); AVX2 intrinsics only where
 * those have no word for it. Letters: T frames, D width, R rows (outputs), C columns (inputs), S
 * keys.
 */
#include "supernet.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__) || defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { LEFT = 64, HISTORY = 3, FACTOR = 4, LANES = 8, ALIGN = 32, HEADER = 64, VERSION = 1 };
enum { FEED_FORWARD_1 = 1, CONVOLUTION = 2, ATTENTION = 4, FEED_FORWARD_2 = 8 };
enum { HALF = 0, BYTES = 1 };
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors never leave this file */
#define INLINE static inline __attribute__((always_inline))
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

/* Weights are halves in the file; where the processor reads halves they stay so: dense matrices are
 * bound by memory. */
#if defined(__F16C__)
typedef uint16_t weight;
INLINE v8 load8(const weight *w) { return (v8)_mm256_cvtph_ps(_mm_loadu_si128((const void *)w)); }
#elif defined(__aarch64__)
typedef uint16_t weight;
INLINE v8 load8(const weight *w) {
  float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(w));
  float32x4_t low = vcvt_f32_f16(vget_low_f16(h)), high = vcvt_high_f32_f16(h);
  v8 all;
  memcpy(&all, &low, 16);
  memcpy((char *)&all + 16, &high, 16);
  return all;
}
#else
#define WIDEN 1
typedef float weight;
INLINE v8 load8(const weight *w) { return *(const v8 *)w; }
#endif

typedef struct {
  int rows, columns, kind; /* rows: a multiple of LANES */
  const int32_t *start;    /* [rows / LANES + 1] first block of every row of blocks */
  const uint16_t *column;  /* [blocks] */
  const weight *values;    /* [blocks][LANES], of kind HALF */
  const int8_t *bytes;     /* [blocks / 2][LANES][2], of kind BYTES */
  const float *scale;      /* [rows], of kind BYTES */
  const float *bias;       /* [rows] */
} Matrix;

typedef struct { const float *weight, *bias; } Norm;
typedef struct { Norm norm; Matrix up, down; } FeedForward;
typedef struct {
  int branches;
  FeedForward first, second;
  Norm convolution_norm, inner_norm, attention_norm, norm;
  Matrix expand, project, query, key, value, out;
  const float *depthwise, *depthwise_bias; /* [kernel][D], [D] */
} Block;

struct Supernet {
  int blocks, width, hidden, heads, kernel, bins, vocabulary, tokens_bytes;
  const float *mean, *scale;
  const char *tokens;
  Matrix first, second, head;
  Block *block;
  void *data;
  void *widened[512];
  int widened_count;
};

/* ---- reading */

typedef struct { const char *at, *end; Supernet *net; int failed; } Cursor;

static const void *take(Cursor *c, size_t bytes) {
  size_t padded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  if (c->failed || (size_t)(c->end - c->at) < padded) {
    c->failed = 1;
    return NULL;
  }
  const void *found = c->at;
  c->at += padded;
  return found;
}

#ifdef WIDEN
static float of_half(uint16_t h) {
  int exponent = h >> 10 & 31, fraction = h & 1023;
  float value = exponent ? ldexpf((float)(fraction + 1024), exponent - 25) : ldexpf((float)fraction, -24);
  return h >> 15 ? -value : value;
}
#endif

static const weight *halves(Cursor *c, const uint16_t *stored, size_t count) {
#ifdef WIDEN
  float *made = c->failed ? NULL : malloc(count * sizeof(float) + 1);
  if (!made || c->net->widened_count == 512) {
    free(made);
    c->failed = 1;
    return NULL;
  }
  c->net->widened[c->net->widened_count++] = made;
  for (size_t i = 0; i < count; i++) made[i] = of_half(stored[i]);
  return made;
#else
  (void)c, (void)count;
  return stored;
#endif
}

static Matrix matrix(Cursor *c, int rows, int columns) {
  Matrix m = {0};
  const int32_t *facts = take(c, 16);
  rows = (rows + LANES - 1) / LANES * LANES;
  if (!facts || facts[0] != rows || facts[1] != columns || facts[2] < 0 || facts[3] < 0 || facts[3] > 1) {
    c->failed = 1;
    return m;
  }
  size_t count = (size_t)facts[2];
  m.rows = rows, m.columns = columns, m.kind = facts[3];
  m.start = take(c, 4 * (size_t)(rows / LANES + 1));
  m.column = take(c, 2 * count);
  if (m.kind == BYTES) {
    m.bytes = take(c, LANES * count);
    m.scale = take(c, 4 * (size_t)rows);
  } else {
    m.values = halves(c, take(c, 2 * LANES * count), LANES * count);
  }
  m.bias = take(c, 4 * (size_t)rows);
  if (c->failed) return m;
  int groups = rows / LANES;
  if (m.start[0] != 0 || (size_t)m.start[groups] != count) c->failed = 1;
  for (int g = 0; g < groups; g++)
    if (m.start[g + 1] < m.start[g] || (m.kind == BYTES && (m.start[g + 1] - m.start[g]) % 2)) c->failed = 1;
  for (size_t i = 0; i < count; i++)
    if (m.column[i] >= columns) c->failed = 1;
  return m;
}

static Norm norm_of(Cursor *c, int width) {
  Norm n;
  n.weight = take(c, 4 * (size_t)width);
  n.bias = take(c, 4 * (size_t)width);
  return n;
}

static FeedForward feed_forward_of(Cursor *c, const Supernet *n) {
  FeedForward f;
  f.norm = norm_of(c, n->width);
  f.up = matrix(c, n->hidden, n->width);
  f.down = matrix(c, n->width, n->hidden);
  return f;
}

static void read_block(Cursor *c, const Supernet *n, Block *b) {
  int D = n->width;
  const int32_t *branches = take(c, 4);
  b->branches = branches ? *branches : 0;
  if (b->branches & FEED_FORWARD_1) b->first = feed_forward_of(c, n);
  if (b->branches & CONVOLUTION) {
    b->convolution_norm = norm_of(c, D);
    b->expand = matrix(c, 2 * D, D);
    b->depthwise = take(c, 4 * (size_t)n->kernel * D);
    b->depthwise_bias = take(c, 4 * (size_t)D);
    b->inner_norm = norm_of(c, D);
    b->project = matrix(c, D, D);
  }
  if (b->branches & ATTENTION) {
    b->attention_norm = norm_of(c, D);
    b->query = matrix(c, D, D);
    b->key = matrix(c, D, D);
    b->value = matrix(c, D, D);
    b->out = matrix(c, D, D);
  }
  if (b->branches & FEED_FORWARD_2) b->second = feed_forward_of(c, n);
  b->norm = norm_of(c, D);
}

static uint32_t crc32_of(const unsigned char *at, size_t bytes) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < bytes; i++) {
    crc ^= at[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
  }
  return ~crc;
}

static const char *fill(Supernet *n, const char *data, size_t bytes) {
  uint32_t crc;
  int32_t facts[8];
  memcpy(&crc, data + 12, 4);
  memcpy(facts, data + 24, sizeof facts);
  if (crc32_of((const unsigned char *)data + 16, bytes - 16) != crc)
    return "the file is damaged: its checksum is another one; copy it again";
  n->blocks = facts[0], n->width = facts[1], n->hidden = facts[2], n->heads = facts[3];
  n->kernel = facts[4], n->bins = facts[5], n->vocabulary = facts[6], n->tokens_bytes = facts[7];
  if (n->blocks < 1 || n->blocks > 64 || n->width < LANES || n->width % LANES || n->hidden % LANES || n->heads < 1 ||
      n->width % n->heads || n->kernel < 2 || n->bins != 80 || n->vocabulary < 2 || n->tokens_bytes < 1)
    return "the file is of a net that this program cannot run";
  n->block = calloc((size_t)n->blocks, sizeof(Block));
  if (!n->block) return "out of memory";
  Cursor c = {data + HEADER, data + bytes, n, 0};
  n->mean = take(&c, 4 * (size_t)n->bins);
  n->scale = take(&c, 4 * (size_t)n->bins);
  n->tokens = take(&c, (size_t)n->tokens_bytes);
  n->first = matrix(&c, n->width, 3 * n->bins);
  n->second = matrix(&c, n->width, 3 * n->width);
  for (int i = 0; i < n->blocks; i++) read_block(&c, n, n->block + i);
  n->head = matrix(&c, n->vocabulary, n->width);
  return c.failed ? "the file is damaged: its parts do not fit each other" : NULL;
}

Supernet *supernet_open(const void *data, size_t bytes, const char **error) {
  const char *unused;
  if (!error) error = &unused;
  uint32_t version = 0;
  uint64_t said = 0;
  if (bytes >= HEADER) memcpy(&version, (const char *)data + 8, 4), memcpy(&said, (const char *)data + 16, 8);
  if (bytes < HEADER || memcmp(data, "SUPERNET", 8)) {
    *error = "this is no flat file of a subnet: make one with core/runtime/_flat.py";
    return NULL;
  }
  if (version != VERSION) {
    *error = "the flat file is of another version: make it again with this checkout";
    return NULL;
  }
  if (said != bytes) {
    *error = "the file is cut off or has something behind its end: copy it again";
    return NULL;
  }
  Supernet *net = calloc(1, sizeof *net);
  if (net && posix_memalign(&net->data, 64, bytes) == 0) {
    memcpy(net->data, data, bytes);
    *error = fill(net, net->data, bytes);
    if (!*error) return net;
  } else {
    *error = "out of memory";
  }
  supernet_close(net);
  return NULL;
}

void supernet_close(Supernet *net) {
  if (!net) return;
  for (int i = 0; i < net->widened_count; i++) free(net->widened[i]);
  free(net->block), free(net->data), free(net);
}

int supernet_vocabulary(const Supernet *net) { return net->vocabulary; }
int supernet_bins(const Supernet *net) { return net->bins; }
const float *supernet_mean(const Supernet *net) { return net->mean; }
const float *supernet_scale(const Supernet *net) { return net->scale; }

const char *supernet_symbol(const Supernet *net, int token, int *bytes) {
  const char *at = net->tokens, *end = net->tokens + net->tokens_bytes, *line;
  for (int i = 0; at < end; i++) {
    for (line = at; at < end && *at != '\n'; at++) {}
    if (i == token) {
      *bytes = (int)(at - line);
      return line;
    }
    at++;
  }
  *bytes = 0;
  return "";
}

#include "kernels.h"
#include "step.h"
