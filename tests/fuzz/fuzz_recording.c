/* SPDX-License-Identifier: MIT */
/*
 * The reader and verify over any bytes: no crash, bounded memory, an end. What
 * verify finds nothing wrong with must be read without an error, and give as
 * many records by seeking as by reading through.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "record/export.h"
#include "record/reader.h"
#include "record/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Frames of at least this many bytes, records of at least 16 in at most 69632. */
enum { FRAME_LEAST = 120, RECORDS_MOST = 69632 / 16 };

static void no_fault(void *ctx, const struct reader_fault *fault)
{
	BUG_ON(!fault->what || !*fault->what);
	(*(uint64_t *)ctx)++;
}

static uint64_t read_all(struct reader *r, size_t size, bool clean)
{
	uint64_t n = 0, errors = 0;
	struct reader_record rec;
	struct buf line;
	int got;

	buf_init(&line, 1 << 20);
	while ((got = reader_next(r, &rec))) {
		uint64_t sum = 0;

		if (got < 0) {
			BUG_ON(clean || got != -EBADMSG || !reader_fault(r)->what);
			BUG_ON(++errors > size);
			continue;
		}
		for (size_t i = 0; i < rec.payload.n; i++)
			sum += rec.payload.p[i]; /* every byte is there */
		buf_reset(&line);
		if (rec.payload.n < 4096 && sum != UINT64_MAX)
			BUG_ON(export_jsonl(&rec, n, &line));
		BUG_ON(++n > (size / FRAME_LEAST + 1) * RECORDS_MOST);
	}
	buf_done(&line);
	return n;
}

static void seek_all(struct reader *r, size_t size, uint64_t frames)
{
	for (uint64_t seq = 0; seq < frames; seq++) {
		struct reader_record rec;

		BUG_ON(reader_seek(r, seq));
		if (reader_next(r, &rec) == 1)
			BUG_ON(rec.frame < seq);
	}
	BUG_ON(reader_seek(r, frames) != -ERANGE);
	(void)!reader_seek_time(r, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t faults = 0, n;
	struct verify_result res;
	struct reader_info info;
	struct reader *r;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
	BUG_ON(verify_file(fd, no_fault, &faults, &res) || res.faults != faults);
	if (reader_new(fd, &r)) {
		BUG_ON(!faults && res.frames);
		(void)close(fd);
		return 0;
	}
	n = read_all(r, size, !faults);
	BUG_ON(!faults && n > res.records);
	if (reader_get_info(r, &info) == 0) {
		BUG_ON(info.frames > size / FRAME_LEAST + 1 || info.torn_bytes > size);
		seek_all(r, size, info.frames);
		if (info.frames && reader_seek(r, 0) == 0)
			BUG_ON(read_all(r, size, !faults) != n);
	}
	reader_free(r);
	return 0;
}
