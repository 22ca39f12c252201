/* Prints what is said while it is said: an example of supernet.h. Tokens are joined to text: words of
 * a net of letters or pieces, phonemes with spaces between of a net of phonemes.
 *
 *   gcc -O3 -march=native -o transcribe transcribe.c supernet.c fbank.c -lm
 *   ffmpeg -i talk.opus -f s16le -ar 16000 -ac 1 - | ./transcribe u70.snet [chunk in ms [time]]
 *
 * With `time` each packet is a chunk, and the lines are: ms to load the file, ms of every chunk from
 * its samples to its text, the process's highest resident memory in MB (0 where /proc is not), the text.
 */
#include "supernet.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAME_MS = 40, CHUNK_MS = 320, PACKET = 1600, FRAME = 640, MOST = 64 };

static int fail(const char *what, const char *why) {
  fprintf(stderr, "transcribe: %s: %s\n", what, why);
  return 2;
}

static char *read_all(const char *name, size_t *bytes) {
  FILE *file = fopen(name, "rb");
  char *data = NULL;
  long size;
  if (file && !fseek(file, 0, SEEK_END) && (size = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET)) {
    data = malloc((size_t)size + 1);
    *bytes = data ? fread(data, 1, (size_t)size, file) : 0;
  }
  if (file) fclose(file);
  return data;
}

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static double peak_mb(void) {
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  long kib = 0;
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
  if (status) fclose(status);
  return (double)kib * 1024 / 1e6;
}

int main(int count, char **words) {
  int chunk_ms = count > 2 ? atoi(words[2]) : CHUNK_MS, chunk = chunk_ms / FRAME_MS;
  const char *error, *text = "";
  size_t bytes = 0, got, heard = 0, packet = PACKET;
  static int16_t raw[MOST * FRAME];
  static float samples[MOST * FRAME];
  char *shown = calloc(1, 1);
  int timed = count == 4 && !strcmp(words[3], "time");
  if (count < 2 || count > 3 + timed)
    return fail("usage", "transcribe FILE.snet [CHUNK_MS [time]] < 16 kHz mono 16-bit PCM");
  if (chunk < 1 || chunk > MOST || MOST % chunk || chunk * FRAME_MS != chunk_ms)
    return fail(words[2], "expected a chunk of 40, 80, 160, 320, 640, 1280 or 2560 ms");
  if (timed) packet = (size_t)chunk * FRAME;
  double began = now_ms();
  char *data = read_all(words[1], &bytes);
  if (!data) return fail(words[1], "cannot be read");
  Supernet *net = supernet_open(data, bytes, &error);
  free(data);
  if (!net) return fail(words[1], error);
  SupernetListener *listener = supernet_listen(net, chunk);
  if (timed) printf("%.4f\n", now_ms() - began);
  while (listener && text && (got = fread(raw, sizeof *raw, packet, stdin)) > 0) {
    if (!heard && got > 3 && !memcmp(raw, "RIFF", 4))
      return fail("standard input", "expected raw 16 kHz mono 16-bit PCM, got a WAV file with a header");
    for (size_t i = 0; i < got; i++) samples[i] = (float)raw[i] / 32768.0f;
    heard += got;
    began = now_ms();
    text = supernet_accept(listener, samples, got);
    if (timed) {
      printf("%.4f\n", now_ms() - began);
    } else if (text && strcmp(text, shown)) {
      free(shown);
      shown = strdup(text);
      puts(text), fflush(stdout);
    }
  }
  if (!heard) return fail("standard input", "expected 16 kHz mono 16-bit PCM, got nothing");
  if (!listener || !text || !(text = supernet_finish(listener))) return fail(words[1], "out of memory");
  if (timed) printf("%.4f\n", peak_mb());
  puts(text);
  free(shown), supernet_listener_close(listener), supernet_close(net);
  return 0;
}
