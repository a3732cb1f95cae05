/* SPDX-License-Identifier: MIT */
#include "ctl/proofs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/text.h"
#include "record/receipt.h"

struct known_key {
	char name[RECEIPT_KEY_NAME];
	EVP_PKEY *key;
};

struct proofs {
	char *dir; /* NULL: no other keys than the first */
	struct known_key *keys;
	size_t nkeys;
	json_t *header;	 /* of the recording */
	json_t *digests; /* of statements that are to be approved, by seq */
	json_t *used;	 /* requests of statements whose receipts were met */
	struct proofs_counts n;
	char key[RECEIPT_KEY_NAME];
};

static int read_key(const char *path, EVP_PKEY **ret)
{
	char text[RECEIPT_KEY_FILE_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text));
	(void)close(fd);
	*ret = n > 0 ? receipt_key_parse(slice_of(text, (size_t)n)) : NULL;
	return *ret ? 0 : -EINVAL;
}

/* Takes over @key. */
static EVP_PKEY *keep_key(struct proofs *p, EVP_PKEY *key)
{
	struct known_key *list = reallocarray(p->keys, p->nkeys + 1, sizeof(*list));

	if (list)
		p->keys = list;
	if (!list || receipt_key_name(key, list[p->nkeys].name)) {
		EVP_PKEY_free(key);
		return NULL;
	}
	list[p->nkeys].key = key;
	return list[p->nkeys++].key;
}

int proofs_new(const char *key_file, const char *recording, struct proofs **ret)
{
	struct proofs *p = calloc(1, sizeof(*p));
	const char *slash = strrchr(recording, '/');
	EVP_PKEY *key;
	int err = p ? 0 : -ENOMEM;

	if (!err && key_file)
		err = read_key(key_file, &key);
	if (!err && key_file && !keep_key(p, key))
		err = -ENOMEM;
	if (!err && !key_file) {
		p->dir = slash ? strndup(recording, (size_t)(slash - recording) + 1) : strdup("./");
		err = p->dir ? 0 : -ENOMEM;
	}
	if (!err) {
		p->digests = json_object();
		p->used = json_object();
		*ret = p;
	} else {
		proofs_free(p);
	}
	return err;
}

void proofs_free(struct proofs *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->nkeys; i++)
		EVP_PKEY_free(p->keys[i].key);
	free(p->keys);
	free(p->dir);
	json_decref(p->header);
	json_decref(p->digests);
	json_decref(p->used);
	free(p);
}

/* A key is what its bytes say, not what its file is called. */
static EVP_PKEY *find_key(void *ctx, const char *name)
{
	struct proofs *p = ctx;
	EVP_PKEY *key = NULL;
	char *path = NULL;

	for (size_t i = 0; i < p->nkeys; i++)
		if (strcmp(p->keys[i].name, name) == 0)
			return p->keys[i].key;
	if (!p->dir || strlen(name) != RECEIPT_KEY_NAME - 1 ||
	    strspn(name, "0123456789abcdef") != RECEIPT_KEY_NAME - 1 ||
	    asprintf(&path, "%s" RECEIPT_KEY_PREFIX "%s" RECEIPT_KEY_SUFFIX, p->dir, name) < 0)
		return NULL;
	if (read_key(path, &key) == 0)
		key = keep_key(p, key);
	free(path);
	return key && strcmp(p->keys[p->nkeys - 1].name, name) == 0 ? key : NULL;
}

static const char *str(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

static bool same(const json_t *a, const char *a_name, const json_t *b, const char *b_name)
{
	return strcmp(str(a, a_name), str(b, b_name)) == 0;
}

static const char *digest_of(const struct proofs *p, const json_t *rec)
{
	char seq[24];

	(void)snprintf(seq, sizeof(seq), "%lld",
		       json_integer_value(json_object_get(rec, "seq")));
	return str(p->digests, seq);
}

/* A good signature under another decision proves nothing. */
static const char *compare(const struct proofs *p, const json_t *body, const json_t *rec)
{
	bool statement = strcmp(str(rec, "what"), "statement") == 0;

	if (!same(body, "decision", rec, "decision") || !same(body, "by", rec, "by"))
		return "is of another decision";
	if (statement && strcmp(str(body, "what"), "statement") != 0)
		return "is not of a statement";
	if (!statement && strcmp(str(body, "what"), "access") != 0 &&
	    strcmp(str(body, "what"), "grant") != 0)
		return "is not of an access";
	if (!same(body, "agent", p->header, "agent") || !same(body, "target", p->header, "target"))
		return "is of another agent or target";
	if (*str(rec, "request") && !same(body, "request", rec, "request"))
		return "is of another request";
	if (*str(rec, "grant") && !same(body, "grant", rec, "grant"))
		return "is of another grant";
	if (statement && !same(body, "session", p->header, "session"))
		return "is of another session";
	if (statement && strcmp(str(body, "statement_sha256"), digest_of(p, rec)) != 0)
		return "is of another statement";
	/* A grant serves many sessions, an approved statement runs once. */
	if (statement && json_object_get(p->used, str(body, "request")))
		return "was there before, for another execution";
	if (statement)
		(void)json_object_set_new(p->used, str(body, "request"), json_true());
	return NULL;
}

static const char *on_decision(struct proofs *p, const json_t *rec)
{
	const json_t *receipt = json_object_get(rec, "receipt");
	const char *why = NULL;
	json_t *body;

	if (!receipt) {
		p->n.none += strcmp(str(rec, "by"), "policy") != 0;
		return NULL;
	}
	body = receipt_open(receipt, find_key, p, &why);
	if (body)
		why = compare(p, body, rec);
	json_decref(body);
	p->n.bad += why != NULL;
	p->n.good += !why;
	if (!why) {
		(void)snprintf(p->key, sizeof(p->key), "%s", str(receipt, "key"));
		p->n.key = p->key;
	}
	return why;
}

/* Of those that are asked about, and only those. */
static void keep_digest(struct proofs *p, const json_t *rec)
{
	char seq[24];

	if (strcmp(str(rec, "decision"), "approve") != 0 || !*str(rec, "digest"))
		return;
	(void)snprintf(seq, sizeof(seq), "%lld",
		       json_integer_value(json_object_get(rec, "seq")));
	(void)json_object_set(p->digests, seq, json_object_get(rec, "digest"));
}

const char *proofs_record(struct proofs *p, const struct reader_record *rec)
{
	struct slice text = reader_json(rec);
	const char *why = NULL;
	json_t *o;

	if (!text.n || (rec->type != TG_REC_HEADER && rec->type != TG_REC_COMMAND &&
			rec->type != TG_REC_EXECUTE && rec->type != TG_REC_DECISION))
		return NULL;
	o = json_loadb((const char *)text.p, text.n, 0, NULL);
	if (rec->type == TG_REC_HEADER && !p->header)
		p->header = json_incref(o);
	else if (rec->type == TG_REC_DECISION)
		why = on_decision(p, o);
	else
		keep_digest(p, o);
	json_decref(o);
	return why;
}

struct proofs_counts proofs_counts(const struct proofs *p)
{
	return p->n;
}
