/* SPDX-License-Identifier: MIT */
#include "daemon/signer.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/vault.h"

static EVP_PKEY *make_key(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
	EVP_PKEY *key = NULL;

	if (ctx && EVP_PKEY_keygen_init(ctx) == 1)
		(void)EVP_PKEY_keygen(ctx, &key);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static int write_all(int fd, struct slice s)
{
	while (s.n) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		s = slice_from(s, (size_t)n);
	}
	return fsync(fd) ? -errno : 0;
}

/* Beside its place first: a key that was written in part would be a key for ever. */
static int write_key(int dir, EVP_PKEY *key)
{
	static const char fresh[] = SIGNER_FILE ".new";
	BIO *bio = BIO_new(BIO_s_secmem());
	char *text = NULL;
	long n = bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1
			 ? BIO_get_mem_data(bio, &text)
			 : 0;
	int fd, err = n > 0 ? 0 : -ENOMEM;

	(void)unlinkat(dir, fresh, 0);
	fd = err ? -1 : openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (!err && fd < 0)
		err = -errno;
	if (!err)
		err = write_all(fd, slice_of(text, (size_t)n));
	/* Never over one that is there: link() fails then. */
	if (!err && linkat(dir, fresh, dir, SIGNER_FILE, 0))
		err = -errno;
	if (fd >= 0)
		(void)close(fd);
	(void)unlinkat(dir, fresh, 0);
	if (!err && fsync(dir))
		err = -errno;
	BIO_free(bio);
	return err;
}

static int create(const char *state_dir, const char **ret_why)
{
	int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
	EVP_PKEY *key;

	if (dir < 0) {
		err = -errno;
		*ret_why = strerror(-err);
		return err;
	}
	key = make_key();
	err = key ? write_key(dir, key) : -EOPNOTSUPP;
	if (err)
		*ret_why = key ? strerror(-err) : "OpenSSL makes no Ed25519 key here";
	EVP_PKEY_free(key);
	(void)close(dir);
	return err;
}

static int no_passphrase(char *dst, int cap, int rw, void *ctx)
{
	return -1;
}

int signer_load(const char *state_dir, struct signer *ret, const char **ret_why)
{
	struct secret_stamp stamp;
	char path[512];
	struct buf text;
	BIO *bio;
	int err;

	*ret = (struct signer){.key = NULL};
	(void)snprintf(path, sizeof(path), "%s/" SIGNER_FILE, state_dir);
	/* Root's alone: not even the account that keyd becomes can read it again. */
	err = vault_read(path, (struct secret_reader){0}, &text, &stamp, ret_why);
	if (err == -ENOENT) {
		err = create(state_dir, ret_why);
		if (!err)
			err = vault_read(path, (struct secret_reader){0}, &text, &stamp, ret_why);
	}
	if (err)
		return err;
	bio = BIO_new_mem_buf(buf_data(&text), (int)text.n);
	if (bio)
		ret->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	buf_wipe(&text);
	if (ret->key && receipt_key_name(ret->key, ret->name) == 0)
		return 0;
	signer_done(ret);
	*ret_why = "it holds no Ed25519 key in PEM form";
	return -EINVAL;
}

void signer_done(struct signer *s)
{
	EVP_PKEY_free(s->key);
	s->key = NULL;
}

int signer_public(const struct signer *s, struct buf *ret)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	int err = -ENOMEM;

	if (bio && PEM_write_bio_PUBKEY(bio, s->key) == 1) {
		long n = BIO_get_mem_data(bio, &text);

		err = n > 0 ? buf_append(ret, text, (size_t)n) : -EIO;
	}
	BIO_free(bio);
	return err;
}
