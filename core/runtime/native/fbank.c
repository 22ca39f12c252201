/* Sound as it comes -> Kaldi's log-mel features (core/speech/features.py) -> chunks -> greedy text.
 *
 * Letters: F frames of 10 ms, T encoder frames of a chunk.
 */
#include "supernet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = 16000, SHIFT = 160, WINDOW = 400, FFT = 512, LINES = FFT / 2 + 1, BINS = 80, HISTORY = 3, FACTOR = 4 };
enum { BEFORE = (WINDOW - SHIFT) / 2 }; /* samples that a frame begins before its 10 ms */

struct SupernetListener {
  const Supernet *net;
  SupernetStream *stream;
  int chunk, frames, previous, failed;  /* frames: that wait in the window behind its history */
  float *window, *log_probs, *samples;
  size_t count, room, first, next;      /* samples kept, room for them, place of the first in the sound, next frame */
  float shape[WINDOW], banks[LINES][BINS], cosine[FFT / 2], sine[FFT / 2];
  char *text;
  size_t length, text_room;
};

static double mel(double hz) { return 1127.0 * log1p(hz / 700.0); }

static void tables(SupernetListener *l) {
  const double pi = 3.14159265358979323846, low = mel(20.0), step = (mel(RATE / 2 - 400.0) - low) / (BINS + 1);
  for (int i = 0; i < WINDOW; i++) l->shape[i] = (float)pow(0.5 - 0.5 * cos(2 * pi * i / (WINDOW - 1)), 0.85);
  for (int i = 0; i < FFT / 2; i++) l->cosine[i] = (float)cos(2 * pi * i / FFT), l->sine[i] = (float)-sin(2 * pi * i / FFT);
  for (int i = 0; i < LINES; i++)
    for (int b = 0; b < BINS; b++) {
      double up = (mel((double)i * RATE / FFT) - low) / step - b, down = 2.0 - up, least = up < down ? up : down;
      l->banks[i][b] = least > 0 ? (float)least : 0.0f;
    }
}

static void fourier(const SupernetListener *l, float *re, float *im) {
  for (int i = 1, j = 0; i < FFT; i++) {
    int bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j |= bit;
    if (i < j) {
      float r = re[i];
      re[i] = re[j], re[j] = r;
    }
  }
  for (int half = 1; half < FFT; half *= 2)
    for (int at = 0; at < FFT; at += 2 * half)
      for (int k = 0; k < half; k++) {
        float c = l->cosine[k * (FFT / 2 / half)], s = l->sine[k * (FFT / 2 / half)];
        float *a = re + at + k, *b = im + at + k, r = a[half] * c - b[half] * s, i = a[half] * s + b[half] * c;
        a[half] = *a - r, b[half] = *b - i, *a += r, *b += i;
      }
}

/* The sample at a place of the sound; both ends are mirrored (snip_edges false). */
static float sample(const SupernetListener *l, long at) {
  long total = (long)(l->first + l->count);
  while (at < 0 || at >= total) at = at < 0 ? -at - 1 : 2 * total - 1 - at;
  return at < (long)l->first ? 0.0f : l->samples[at - (long)l->first];
}

static void features(const SupernetListener *l, size_t frame, float *out) {
  float re[FFT] = {0}, im[FFT] = {0}, mean = 0, last;
  for (int i = 0; i < WINDOW; i++) mean += re[i] = sample(l, (long)frame * SHIFT - BEFORE + i);
  for (int i = 0; i < WINDOW; i++) re[i] -= mean / WINDOW;
  last = re[0];
  for (int i = 0; i < WINDOW; i++) {
    float now = re[i];
    re[i] = (now - 0.97f * last) * l->shape[i];
    last = now;
  }
  fourier(l, re, im);
  for (int b = 0; b < BINS; b++) out[b] = 0;
  for (int i = 0; i < LINES; i++)
    for (int b = 0; b < BINS; b++) out[b] += (re[i] * re[i] + im[i] * im[i]) * l->banks[i][b];
  for (int b = 0; b < BINS; b++) out[b] = logf(out[b] > 1.1920929e-7f ? out[b] : 1.1920929e-7f);
}

SupernetListener *supernet_listen(const Supernet *net, int chunk) {
  SupernetListener *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  l->net = net, l->chunk = chunk;
  l->stream = supernet_stream(net, chunk);
  l->window = calloc((size_t)(HISTORY + FACTOR * chunk) * BINS, sizeof(float));
  l->log_probs = malloc(sizeof(float) * (size_t)chunk * (size_t)supernet_vocabulary(net));
  l->text_room = 256;
  l->text = calloc(1, l->text_room);
  if (!l->stream || !l->window || !l->log_probs || !l->text) {
    supernet_listener_close(l);
    return NULL;
  }
  tables(l);
  return l;
}

void supernet_listener_close(SupernetListener *l) {
  if (!l) return;
  supernet_stream_close(l->stream);
  free(l->window), free(l->log_probs), free(l->samples), free(l->text), free(l);
}

static void say(SupernetListener *l, int token) {
  int bytes, space = 0;
  const char *symbol = supernet_symbol(l->net, token, &bytes);
  if (bytes >= 3 && !memcmp(symbol, "\xe2\x96\x81", 3)) symbol += 3, bytes -= 3, space = l->length > 0;
  if (l->length + (size_t)bytes + 2 > l->text_room) {
    char *more = realloc(l->text, 2 * l->text_room + (size_t)bytes);
    if (!more) {
      l->failed = 1;
      return;
    }
    l->text = more, l->text_room = 2 * l->text_room + (size_t)bytes;
  }
  if (space) l->text[l->length++] = ' ';
  memcpy(l->text + l->length, symbol, (size_t)bytes);
  l->text[l->length += (size_t)bytes] = 0;
}

/* The chunk that waits, of which `frames` are real. */
static void run(SupernetListener *l) {
  int V = supernet_vocabulary(l->net), valid = (l->frames + FACTOR - 1) / FACTOR;
  float *own = l->window + HISTORY * BINS;
  memset(own + l->frames * BINS, 0, sizeof(float) * BINS * (size_t)(FACTOR * l->chunk - l->frames));
  supernet_step(l->stream, l->window, valid, l->log_probs);
  for (int t = 0; t < valid; t++) {
    const float *row = l->log_probs + t * V;
    int best = 0;
    for (int i = 1; i < V; i++)
      if (row[i] > row[best]) best = i;
    if (best && best != l->previous) say(l, best);
    l->previous = best;
  }
  memmove(l->window, l->window + FACTOR * l->chunk * BINS, sizeof(float) * HISTORY * BINS);
  l->frames = 0;
}

/* All frames up to `end`, which lie in the samples kept; samples that no later frame needs go. */
static void run_frames(SupernetListener *l, size_t end) {
  const float *mean = supernet_mean(l->net), *scale = supernet_scale(l->net);
  for (; l->next < end; l->next++) {
    float *row = l->window + (size_t)(HISTORY + l->frames++) * BINS;
    features(l, l->next, row);
    for (int b = 0; b < BINS; b++) row[b] = (row[b] - mean[b]) * scale[b];
    if (l->frames == FACTOR * l->chunk) run(l);
  }
  size_t needed = l->next * SHIFT > 2 * WINDOW ? l->next * SHIFT - 2 * WINDOW : 0; /* mirrored at the end, too */
  if (needed > l->first) {
    size_t gone = needed - l->first;
    memmove(l->samples, l->samples + gone, sizeof(float) * (l->count - gone));
    l->first = needed, l->count -= gone;
  }
}

const char *supernet_accept(SupernetListener *l, const float *samples, size_t count) {
  if (l->count + count > l->room) {
    float *more = realloc(l->samples, sizeof(float) * 2 * (l->count + count));
    if (!more) return NULL;
    l->samples = more, l->room = 2 * (l->count + count);
  }
  memcpy(l->samples + l->count, samples, sizeof(float) * count);
  l->count += count;
  size_t total = l->first + l->count; /* frame f needs samples up to 160 f - 120 + 400 */
  run_frames(l, total + BEFORE >= WINDOW ? (total + BEFORE - WINDOW) / SHIFT + 1 : 0);
  return l->failed ? NULL : l->text;
}

const char *supernet_finish(SupernetListener *l) {
  if (l->first + l->count) run_frames(l, (l->first + l->count + SHIFT / 2) / SHIFT);
  if (l->frames) run(l);
  return l->failed ? NULL : l->text;
}
