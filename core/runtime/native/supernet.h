/* A subnet as C runs it: from 16 kHz sound, or from normalized features, to tokens, chunk by chunk.
 *
 * No dependencies but the C library and libm; one thread; nothing is allocated after a stream was
 * made. Files come from core/runtime/_flat.py. Letters: T encoder frames (40 ms) of a chunk, V
 * tokens with blank = 0.
 */
#ifndef SUPERNET_H
#define SUPERNET_H
#include <stddef.h>

typedef struct Supernet Supernet;
typedef struct SupernetStream SupernetStream;
typedef struct SupernetListener SupernetListener;

/* The net of a flat file's bytes (copied); NULL, and why in *error, for anything else. */
Supernet *supernet_open(const void *data, size_t bytes, const char **error);
void supernet_close(Supernet *net);
int supernet_vocabulary(const Supernet *net);
int supernet_bins(const Supernet *net);
const float *supernet_mean(const Supernet *net);  /* [bins] of raw features */
const float *supernet_scale(const Supernet *net); /* [bins] 1 / standard deviation */
/* The symbol of a token, not ended by 0; its length goes to *bytes. */
const char *supernet_symbol(const Supernet *net, int token, int *bytes);

/* A stream of chunks of T frames: a divisor of 64, or for one step alone any number. NULL where
 * memory is short. */
SupernetStream *supernet_stream(const Supernet *net, int chunk);
void supernet_stream_close(SupernetStream *stream);
/* One chunk: window [3 + 4 T][bins] normalized, its first 3 frames those before the chunk; `valid`
 * of the T frames are real -> log_probs [T][V]. */
void supernet_step(SupernetStream *stream, const float *window, int valid, float *log_probs);

/* Greedy recognition of sound as it comes (fbank.c): 16 kHz, -1..1, in packets of any length. The
 * text so far is ended by 0 and belongs to the listener; NULL where memory is short. */
SupernetListener *supernet_listen(const Supernet *net, int chunk);
const char *supernet_accept(SupernetListener *listener, const float *samples, size_t count);
const char *supernet_finish(SupernetListener *listener);
void supernet_listener_close(SupernetListener *listener);
#endif
