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
                    T * D, T * D, LANES * (S + LANES), T * (size_t)n->head.rows};
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
  for (int t = 0; t < T; t++)
    for (int i = 0; i < D; i += LANES) {
      const float *x = history + (size_t)t * D + i, *w = b->depthwise + i;
      v8 sum = *(const v8 *)(b->depthwise_bias + i);
      for (int k = 0; k < K; k++) sum += *(const v8 *)(x + k * D) * *(const v8 *)(w + k * D);
      *(v8 *)(s->y + t * D + i) = sum;
    }
  memmove(history, history + (size_t)T * D, sizeof(float) * (size_t)(K - 1) * D);
  norm(&b->inner_norm, s->y, T, D, s->normed);
  silu(s->normed, T * D);
  times(&b->project, s->normed, D, T, s->y, D, s->codes);
  add(s->x, s->y, T * D, 1.0f);
}

/* Scores [S] -> shares of the keys that are real: the chunk's frames behind `valid` are not. */
static void softmax(const SupernetStream *s, float *restrict p, int valid) {
  float most = -1e30f, total = 0;
  int filled = s->filled, from = s->at + valid, to = s->at + s->T;
  for (int k = from; k < to; k++) p[k] = -1e30f;
  for (int k = 0; k < filled; k++) most = p[k] > most ? p[k] : most;
  for (int k = 0; k < filled; k++) p[k] = fast_exp(p[k] - most);
  for (int k = from; k < to; k++) p[k] = 0;
  for (int k = 0; k < filled; k++) total += p[k];
  total = 1.0f / total;
  for (int k = 0; k < filled; k++) p[k] *= total;
}

/* n frames over one head: query and y [n][d] in rows of D; keys [d][S], values [S][D]. What is read
 * behind the last key or value is never used. */
INLINE void attend(SupernetStream *s, const float *query, const float *keys, const float *values, int d, int valid,
                   float *y, const int n) {
  size_t S = (size_t)s->S, D = (size_t)s->net->width, P = S + LANES;
  float *p = s->p, scale = 1.0f / sqrtf((float)d);
  for (int k = 0; k < s->filled; k += LANES) {
    v8 sum[LANES] = {{0}};
    for (int i = 0; i < d; i++) {
      v8 key = *(const v8 *)(keys + i * S + k);
      for (int t = 0; t < n; t++) sum[t] += key * query[t * D + i];
    }
    for (int t = 0; t < n; t++) *(v8 *)(p + t * P + k) = sum[t] * scale;
  }
  for (int t = 0; t < n; t++) softmax(s, p + t * P, valid);
  for (int i = 0; i < d; i += LANES) {
    v8 sum[LANES] = {{0}};
    for (int k = 0; k < s->filled; k++) {
      v8 value = *(const v8 *)(values + k * D + i);
      for (int t = 0; t < n; t++) sum[t] += value * p[t * P + k];
    }
    for (int t = 0; t < n; t++)
      for (int lane = 0; lane < LANES && i + lane < d; lane++) y[t * D + i + lane] = sum[t][lane];
  }
}

static void attention(SupernetStream *s, const Block *b, float *keys, float *values, int valid) {
  int T = s->T, D = s->net->width, S = s->S, d = D / s->net->heads;
  norm(&b->attention_norm, s->x, T, D, s->normed);
  times(&b->query, s->normed, D, T, s->query, D, s->codes);
  times(&b->key, s->normed, D, T, s->y, D, s->codes);
  for (int i = 0; i < D; i++)
    for (int t = 0; t < T; t++) keys[(size_t)i * S + s->at + t] = s->y[t * D + i];
  times(&b->value, s->normed, D, T, values + (size_t)s->at * D, D, s->codes);
  for (int t = 0, n; t < T; t += n) {
    n = T - t >= 8 ? 8 : T - t >= 4 ? 4 : T - t >= 2 ? 2 : 1;
    for (int at = 0; at < D; at += d) {
      const float *query = s->query + t * D + at, *own = keys + (size_t)at * S;
      float *y = s->normed + t * D + at;
      if (n == 8) attend(s, query, own, values + at, d, valid, y, 8);
      else if (n == 4) attend(s, query, own, values + at, d, valid, y, 4);
      else if (n == 2) attend(s, query, own, values + at, d, valid, y, 2);
      else attend(s, query, own, values + at, d, valid, y, 1);
    }
  }
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
