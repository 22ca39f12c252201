/* A stream's state and one chunk through all blocks; a part of supernet.c.
 *
 * Keys and values lie in rings of S = LEFT + T places: without positions their order says nothing,
 * so a chunk takes the place of the oldest one, and nothing is moved.
 */

struct SupernetStream {
  const Supernet *net;
  int T, S, at, filled; /* place of the next chunk, places that hold keys */
  float *memory, *history, *keys, *values; /* [blocks][K-1+T][D], [blocks][D][S], [blocks][S][D] */
  float *early, *x, *normed, *wide, *y, *query, *p, *logits;
  int16_t *codes;
};

SupernetStream *supernet_stream(const Supernet *n, int chunk) {
  if (chunk < 1) return NULL;
  SupernetStream *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  size_t T = (size_t)chunk, S = LEFT + T, D = (size_t)n->width, B = (size_t)n->blocks;
  size_t wide = (size_t)(n->hidden > 3 * n->width ? n->hidden : 3 * n->width);
  size_t columns = wide > 3 * (size_t)n->bins ? wide : 3 * (size_t)n->bins;
  size_t sizes[] = {B * ((size_t)n->kernel - 1 + T) * D, B * D * S, B * S * D, (2 * T + 1) * D, T * D, T * D, T * wide,
                    T * D, T * D, S, T * (size_t)n->head.rows};
  float **parts[] = {&s->history, &s->keys, &s->values, &s->early, &s->x, &s->normed, &s->wide,
                     &s->y, &s->query, &s->p, &s->logits};
  size_t total = 0, count = sizeof sizes / sizeof *sizes;
  for (size_t i = 0; i < count; i++) total += (sizes[i] + 15) / 16 * 16;
  void *room;
  if (posix_memalign(&room, 64, total * sizeof(float) + 8 * columns * sizeof(int16_t) + 64)) {
    free(s);
    return NULL;
  }
  s->net = n, s->T = chunk, s->S = (int)S, s->memory = room;
  memset(room, 0, total * sizeof(float));
  float *at = room;
  for (size_t i = 0; i < count; at += (sizes[i] + 15) / 16 * 16, i++) *parts[i] = at;
  s->codes = (int16_t *)at;
  return s;
}

void supernet_stream_close(SupernetStream *s) {
  if (s) free(s->memory), free(s);
}

static void feed_forward(SupernetStream *s, const FeedForward *f) {
  int T = s->T, D = s->net->width, H = s->net->hidden;
  norm(&f->norm, s->x, T, D, s->normed);
  times(&f->up, s->normed, D, T, s->wide, H, s->codes);
  silu(s->wide, T * H);
  times(&f->down, s->wide, H, T, s->y, D, s->codes);
  add(s->x, s->y, T * D, 0.5f);
}

static void convolution(SupernetStream *s, const Block *b, float *history) {
  int T = s->T, D = s->net->width, K = s->net->kernel;
  float *new = history + (size_t)(K - 1) * D;
  norm(&b->convolution_norm, s->x, T, D, s->normed);
  times(&b->expand, s->normed, D, T, s->wide, 2 * D, s->codes);
  for (int t = 0; t < T; t++) {
    const float *half = s->wide + (size_t)t * 2 * D, *gate = half + D;
    for (int i = 0; i < D; i++) new[t * D + i] = half[i] / (1.0f + fast_exp(-gate[i]));
  }
  for (int t = 0; t < T; t++) {
    float *restrict y = s->y + (size_t)t * D;
    memcpy(y, b->depthwise_bias, sizeof(float) * D);
    for (int k = 0; k < K; k++) {
      const float *restrict x = history + (size_t)(t + k) * D, *restrict w = b->depthwise + (size_t)k * D;
      for (int i = 0; i < D; i++) y[i] += x[i] * w[i];
    }
  }
  memmove(history, history + (size_t)T * D, sizeof(float) * (size_t)(K - 1) * D);
  norm(&b->inner_norm, s->y, T, D, s->normed);
  silu(s->normed, T * D);
  times(&b->project, s->normed, D, T, s->y, D, s->codes);
  add(s->x, s->y, T * D, 1.0f);
}

/* One frame's attention over one head: query [d] -> y [d]; keys [d][S], values [S][D]. */
static void attend(SupernetStream *s, const float *query, const float *keys, const float *values, int d, int valid, float *y) {
  int S = s->S, D = s->net->width, filled = s->filled;
  float *restrict p = s->p, most = -1e30f, total = 0, scale = 1.0f / sqrtf((float)d);
  memset(p, 0, sizeof(float) * (size_t)filled);
  for (int i = 0; i < d; i++) {
    const float *restrict row = keys + (size_t)i * S, q = query[i] * scale;
    for (int k = 0; k < filled; k++) p[k] += q * row[k];
  }
  for (int k = s->at + valid; k < s->at + s->T; k++) p[k] = -1e30f;
  for (int k = 0; k < filled; k++) most = p[k] > most ? p[k] : most;
  for (int k = 0; k < filled; k++) p[k] = fast_exp(p[k] - most);
  for (int k = s->at + valid; k < s->at + s->T; k++) p[k] = 0;
  for (int k = 0; k < filled; k++) total += p[k];
  float inverse = 1.0f / total;
  for (int i = 0; i < d; i++) y[i] = 0;
  int k = 0;
  for (; k + 4 <= filled; k += 4) {
    const float *restrict a = values + (size_t)k * D, *restrict b = a + D, *restrict c = b + D, *restrict e = c + D;
    for (int i = 0; i < d; i++) y[i] += p[k] * a[i] + p[k + 1] * b[i] + p[k + 2] * c[i] + p[k + 3] * e[i];
  }
  for (; k < filled; k++)
    for (int i = 0; i < d; i++) y[i] += p[k] * values[(size_t)k * D + i];
  for (int i = 0; i < d; i++) y[i] *= inverse;
}

static void attention(SupernetStream *s, const Block *b, float *keys, float *values, int valid) {
  int T = s->T, D = s->net->width, S = s->S, d = D / s->net->heads;
  norm(&b->attention_norm, s->x, T, D, s->normed);
  times(&b->query, s->normed, D, T, s->query, D, s->codes);
  times(&b->key, s->normed, D, T, s->y, D, s->codes);
  for (int i = 0; i < D; i++)
    for (int t = 0; t < T; t++) keys[(size_t)i * S + s->at + t] = s->y[t * D + i];
  times(&b->value, s->normed, D, T, values + (size_t)s->at * D, D, s->codes);
  for (int t = 0; t < T; t++)
    for (int at = 0; at < D; at += d)
      attend(s, s->query + t * D + at, keys + (size_t)at * S, values + at, d, valid, s->normed + t * D + at);
  times(&b->out, s->normed, D, T, s->y, D, s->codes);
  add(s->x, s->y, T * D, 1.0f);
}

static void log_softmax(const float *logits, int V, float *out) {
  float most = logits[0], total = 0;
  for (int i = 1; i < V; i++) most = logits[i] > most ? logits[i] : most;
  for (int i = 0; i < V; i++) total += expf(logits[i] - most);
  for (int i = 0; i < V; i++) out[i] = logits[i] - most - logf(total);
}

void supernet_step(SupernetStream *s, const float *window, int valid, float *log_probs) {
  const Supernet *n = s->net;
  int T = s->T, D = n->width, S = s->S;
  times(&n->first, window, 2 * (size_t)n->bins, 2 * T + 1, s->early, D, s->codes);
  gelu(s->early, (2 * T + 1) * D);
  times(&n->second, s->early, 2 * (size_t)D, T, s->x, D, s->codes);
  gelu(s->x, T * D);
  s->filled = s->filled + T < S ? s->filled + T : S;
  for (int i = 0; i < n->blocks; i++) {
    const Block *b = n->block + i;
    if (b->branches & FEED_FORWARD_1) feed_forward(s, &b->first);
    if (b->branches & CONVOLUTION) convolution(s, b, s->history + (size_t)i * (n->kernel - 1 + T) * D);
    if (b->branches & ATTENTION)
      attention(s, b, s->keys + (size_t)i * D * S, s->values + (size_t)i * S * D, valid);
    if (b->branches & FEED_FORWARD_2) feed_forward(s, &b->second);
    norm(&b->norm, s->x, T, D, s->x);
  }
  s->at = (s->at + T) % S;
  times(&n->head, s->x, D, T, s->logits, n->head.rows, s->codes);
  for (int t = 0; t < T; t++) log_softmax(s->logits + t * n->head.rows, n->vocabulary, log_probs + t * n->vocabulary);
}
