/* SPDX-License-Identifier: MIT */
/*
 * Messages between the daemon's processes. The input is one packet: its fields are
 * read in every order that a receiver might use, by the first bytes of the packet's
 * id. Whatever is read lies inside the packet; a bad getter stays bad.
 */
#include "base/compiler.h"
#include "daemon/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice s, const uint8_t *data, size_t size)
{
	if (s.n)
		BUG_ON(s.p < data || s.p + s.n > data + size);
}

static void get(struct ipc_msg *m, unsigned how, const uint8_t *data, size_t size)
{
	switch (how % 5) {
	case 0:
		(void)ipc_get_u32(m);
		break;
	case 1:
		(void)ipc_get_u64(m);
		break;
	case 2: {
		struct slice s = ipc_get_str(m);

		inside(s, data, size);
		BUG_ON(s.n && memchr(s.p, 0, s.n));
		break;
	}
	case 3:
		inside(ipc_get_bytes(m), data, size);
		break;
	default:
		(void)ipc_get_uuid(m);
	}
}

/* A field of any type, as its own type byte says: a well-formed message is read to its end. */
static void walk(struct ipc_msg m, const uint8_t *data, size_t size)
{
	static const unsigned by_type[] = {0, 0, 1, 2, 3, 4};

	for (unsigned i = 0; i < 64 && !m.bad && m.p < m.end; i++)
		get(&m, m.p[0] < ARRAY_SIZE(by_type) ? by_type[m.p[0]] : 0, data, size);
	if (ipc_end(&m))
		BUG_ON(m.p != m.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_msg m = {.nfds = 0}, again;
	uint64_t order;

	if (!ipc_parse(slice_of(data, size), &m))
		return 0;
	walk(m, data, size);
	again = m;
	order = m.id;
	for (unsigned i = 0; i < 24; i++, order = order >> 3 | order << 61) {
		bool was_bad = again.bad;

		get(&again, (unsigned)(order & 7), data, size);
		BUG_ON(was_bad && !again.bad);
	}
	BUG_ON(again.bad && ipc_end(&again));
	BUG_ON(ipc_get_fd(&again) != -1);
	return 0;
}
