/* SPDX-License-Identifier: MIT */
/*
 * The configuration file. Oracle: a file is either taken, with no word said, or refused
 * with at least one line, each of which names a place in the file; and reading
 * it twice gives the same.
 */
#include <errno.h>

#include "base/buf.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * libfyaml 0.7.12 loses a scratch buffer of fy_token_get_text() when a scalar
 * is put together from more than ten pieces (escapes, lines of a block).
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml.so";
}

static const char name[] = "f.yaml";

static void check_lines(struct slice said)
{
	while (said.n) {
		const uint8_t *end = memchr(said.p, '\n', said.n);

		BUG_ON(!end);
		BUG_ON(said.n < sizeof(name) || memcmp(said.p, name, sizeof(name) - 1) != 0);
		BUG_ON(said.p[sizeof(name) - 1] != ':');
		for (const uint8_t *p = said.p; p < end; p++)
			BUG_ON(*p < 0x20 || *p == 0x7f);
		said = slice_from(said, (size_t)(end - said.p) + 1);
	}
}

static int parse(struct slice text, struct buf *said, const char **ret_digest, struct config **ret)
{
	int rc = config_parse(text, name, ret, said);

	BUG_ON((rc == 0) != (said->n == 0));
	BUG_ON(rc != 0 && rc != -EINVAL && rc != -ENOMEM);
	*ret_digest = rc ? "" : policy_digest((*ret)->policy);
	check_lines(buf_slice(said));
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_of(data, size);
	struct config *one = NULL, *two = NULL;
	const char *first, *second;
	struct buf a, b;
	int rc;

	buf_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	rc = parse(text, &a, &first, &one);
	BUG_ON(parse(text, &b, &second, &two) != rc);
	BUG_ON(!slice_eq(buf_slice(&a), buf_slice(&b)) || strcmp(first, second) != 0);
	config_free(one);
	config_free(two);
	buf_done(&a);
	buf_done(&b);
	return 0;
}
