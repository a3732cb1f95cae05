/* SPDX-License-Identifier: MIT */
#include "config/cfgfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, struct buf *ret)
{
	for (;;) {
		uint8_t *p = buf_reserve(ret, 16384);
		ssize_t n = p ? read(fd, p, 16384) : 0;

		if (!p)
			return -EFBIG;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		buf_commit(ret, (size_t)n);
	}
}

static int check_stat(const struct stat *st, const char **ret_why)
{
	*ret_why = !S_ISREG(st->st_mode)	? "it is no regular file"
		   : st->st_mode & 022		? "others may change it: chmod go-w"
		   : st->st_size > CFG_FILE_MAX ? "it is larger than 1 MiB"
						: NULL;
	return *ret_why ? -EINVAL : 0;
}

/* What is to be read later, by whom may not open the file: its certificates, and nothing else of it. */
static const char *keep_certificates(struct slice pem, struct buf *ret)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n), *out = BIO_new(BIO_s_mem());
	const char *why = in && out ? NULL : "out of memory";
	unsigned long e;
	unsigned n = 0;
	char *text;
	X509 *x;

	ERR_clear_error();
	for (; !why && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)); n++) {
		if (PEM_write_bio_X509(out, x) != 1)
			why = "out of memory";
		X509_free(x);
	}
	e = ERR_peek_last_error();
	if (!why && e && !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE))
		why = "it holds a certificate that cannot be read";
	if (!why && n == 0)
		why = "it holds no certificate in PEM form";
	if (!why) {
		long have = BIO_get_mem_data(out, &text);

		buf_reset(ret);
		if (buf_append(ret, text, (size_t)have))
			why = "it is larger than 1 MiB";
	}
	ERR_clear_error();
	BIO_free(in);
	BIO_free(out);
	return why;
}

int config_read_ca(const char *path, struct buf *ret, const char **ret_why)
{
	/* A FIFO must not hold us up, so not blocking; the check is on what is open. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;
	struct buf file;
	struct stat st;

	buf_init(ret, CFG_FILE_MAX + 32768);
	buf_init(&file, CFG_FILE_MAX + 32768);
	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		*ret_why = strerror(-rc);
	} else {
		rc = check_stat(&st, ret_why);
		if (!rc) {
			rc = read_all(fd, &file);
			*ret_why = rc ? strerror(-rc) : keep_certificates(buf_slice(&file), ret);
			rc = *ret_why ? -EINVAL : 0;
		}
	}
	if (fd >= 0)
		(void)close(fd);
	buf_done(&file);
	if (rc)
		buf_done(ret);
	return rc;
}

int config_check_files(const struct config *c, struct buf *error)
{
	int rc = 0;

	for (uint32_t i = 0; i < c->ntargets; i++) {
		const struct cfg_tls *s = c->targets[i].tls;
		const char *why;
		struct buf text;

		if (!s || !s->verified)
			continue;
		if (config_read_ca(s->ca_file, &text, &why) == 0) {
			buf_done(&text);
			continue;
		}
		rc = -EINVAL;
		if (buf_printf(error, "%s:%u:%u: `ca_file` of target `%s` cannot be used: %s: %s\n", c->file,
			       s->line, s->column, c->targets[i].name, s->ca_file, why))
			break;
	}
	return rc;
}
