/* A stream's state and one chunk through all blocks; a part of supernet.c.
 *
 * Keys and values lie in rings of S = LEFT + T places: without positions their order says nothing,
 * so a chunk takes the place of the oldest one, and nothing is moved. Both are stored in the order in
 * which they are read, head by head: keys [S / 8][d][8 places], values [d / 8][S][8 dimensions].
 */

struct SupernetStream {
  const Supernet *net;
  int T, S, at, filled; /* place of the next chunk, places that hold keys */
  size_t cache;
  float *memory, *history, *keys, *values; /* history [blocks][K-1+T][D]; keys and values: `cache` numbers a block */
  float *early, *x, *normed, *wide, *y, *query, *p, *logits;
  int16_t *codes;
};

/* A number filled up to whole vectors. */
INLINE size_t room(int count) { return ((size_t)count + LANES - 1) / LANES * LANES; }

SupernetStream *supernet_stream(const Supernet *n, int chunk) {
  if (chunk < 1) return NULL;
  SupernetStream *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  size_t T = (size_t)chunk, S = room(LEFT + chunk), D = (size_t)n->width, B = (size_t)n->blocks;
  size_t wide = (size_t)(n->hidden > 3 * n->width ? n->hidden : 3 * n->width);
  size_t columns = wide > 3 * (size_t)n->bins ? wide : 3 * (size_t)n->bins;
  s->cache = (size_t)n->heads * room(n->width / n->heads) * S;
  size_t sizes[] = {B * ((size_t)n->kernel - 1 + T) * D, B * s->cache, B * s->cache, (2 * T + 1) * D, T * D, T * D, T * wide,
                    T * D, T * D, LANES * (S + LANES), T * (size_t)n->head.rows};
  float **parts[] = {&s->history, &s->keys, &s->values, &s->early, &s->x, &s->normed, &s->wide,
                     &s->y, &s->query, &s->p, &s->logits};
  size_t total = 0, count = sizeof sizes / sizeof *sizes;
  for (size_t i = 0; i < count; i++) total += (sizes[i] + 15) / 16 * 16;
  void *memory;
  if (posix_memalign(&memory, 64, total * sizeof(float) + 8 * columns * sizeof(int16_t) + 64)) {
    free(s);
    return NULL;
  }
  s->net = n, s->T = chunk, s->S = LEFT + chunk, s->memory = memory;
  memset(memory, 0, total * sizeof(float));
  float *at = memory;
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

/* n frames over one head: query and y [n][d] in rows of D. */
INLINE void attend(SupernetStream *s, const float *query, const float *keys, const float *values, int d, int valid,
                   float *y, const int n) {
  size_t D = (size_t)s->net->width, P = (size_t)s->S + LANES, places = room(s->S);
  float *p = s->p, scale = 1.0f / sqrtf((float)d);
  for (int k = 0; k < s->filled; k += LANES) {
    v8 sum[LANES] = {{0}};
    for (int i = 0; i < d; i++, keys += LANES)
      for (int t = 0; t < n; t++) sum[t] += *(const v8 *)keys * query[t * D + i];
    for (int t = 0; t < n; t++) *(v8 *)(p + t * P + k) = sum[t] * scale;
  }
  for (int t = 0; t < n; t++) softmax(s, p + t * P, valid);
  for (int i = 0; i < d; i += LANES, values += places * LANES) {
    v8 sum[LANES] = {{0}};
    for (int k = 0; k < s->filled; k++)
      for (int t = 0; t < n; t++) sum[t] += *(const v8 *)(values + k * LANES) * p[t * P + k];
    for (int t = 0; t < n; t++)
      for (int lane = 0; lane < LANES && i + lane < d; lane++) y[t * D + i + lane] = sum[t][lane];
  }
}

/* The chunk's keys or values x[T][D] into their places; `of_keys`: which order. */
static void store(const SupernetStream *s, const float *x, float *ring, int of_keys) {
  int D = s->net->width, d = D / s->net->heads;
  size_t places = room(s->S), head = places * room(d);
  for (int t = 0; t < s->T; t++, x += D)
    for (int h = 0; h < s->net->heads; h++)
      for (int i = 0; i < d; i++) {
        size_t at = (size_t)(s->at + t), where = of_keys ? (at / LANES * d + i) * LANES + at % LANES
                                                         : (i / LANES * places + at) * LANES + i % LANES;
        ring[h * head + where] = x[h * d + i];
      }
}

static void attention(SupernetStream *s, const Block *b, float *keys, float *values, int valid) {
  int T = s->T, D = s->net->width, d = D / s->net->heads;
  size_t head = room(s->S) * room(d);
  norm(&b->attention_norm, s->x, T, D, s->normed);
  times(&b->query, s->normed, D, T, s->query, D, s->codes);
  times(&b->key, s->normed, D, T, s->y, D, s->codes);
  store(s, s->y, keys, 1);
  times(&b->value, s->normed, D, T, s->y, D, s->codes);
  store(s, s->y, values, 0);
  for (int t = 0, n; t < T; t += n) {
    n = T - t >= 8 ? 8 : T - t >= 4 ? 4 : T - t >= 2 ? 2 : 1;
    for (int h = 0; h < s->net->heads; h++) {
      const float *query = s->query + t * D + h * d, *k = keys + h * head, *v = values + h * head;
      float *y = s->normed + t * D + h * d;
      if (n == 8) attend(s, query, k, v, d, valid, y, 8);
      else if (n == 4) attend(s, query, k, v, d, valid, y, 4);
      else if (n == 2) attend(s, query, k, v, d, valid, y, 2);
      else attend(s, query, k, v, d, valid, y, 1);
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
      attention(s, b, s->keys + (size_t)i * s->cache, s->values + (size_t)i * s->cache, valid);
    if (b->branches & FEED_FORWARD_2) feed_forward(s, &b->second);
    norm(&b->norm, s->x, T, D, s->x);
  }
  s->at = (s->at + T) % S;
  times(&n->head, s->x, D, T, s->logits, n->head.rows, s->codes);
  for (int t = 0; t < T; t++) log_softmax(s->logits + t * n->head.rows, n->vocabulary, log_probs + t * n->vocabulary);
}
