/* SPDX-License-Identifier: MIT */
#include "daemon/plugcred.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ident.h"
#include "base/log.h"
#include "ident/strict_json.h"

enum {
	WAITING_MAX = 4096, /* logins that wait for one program */
	KEPT = 2,	    /* a login that has begun with the last one ends with it */
	EARLY_S = 5,	    /* seconds before its end from which one is not used for a new login */
	FAILED_MS = 1000,   /* after a failure the program is left alone that long */
	USER_EXPIRES_MAX_S = 30 * 86400,
};

struct source {
	struct list link;
	char *name;
	bool asked;
	struct secret *now; /* NULL: none that is good */
	uint64_t until_boot_ns, failed_boot_ns;
	int error;
	struct list secrets; /* the newest at the end */
	uint64_t *waiting;
	uint32_t nwaiting;
};

struct plugcred {
	struct ipc *ipc;
	struct list sources;
};

/* ------------------------------------------------------------------- output */

static const char *take_user(struct slice s, char dst[PLUGCRED_USER_MAX + 1])
{
	if (s.n == 0 || s.n > PLUGCRED_USER_MAX)
		return "`user` is empty or too long";
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < ' ' || s.p[i] == 0x7f)
			return "`user` has a control character";
	memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return NULL;
}

/* All room at once: a buffer that grew would leave copies behind. */
static const char *take_password(struct slice s, struct buf *ret)
{
	if (s.n > PASSWORD_MAX + 2)
		return "the password is too long";
	return buf_reserve(ret, PASSWORD_MAX + 2) && !buf_append_slice(ret, s)
		       ? vault_trim_password(ret)
		       : "there is no memory";
}

static const char *parse_json(struct slice text, struct plugcred_output *ret)
{
	json_t *o = strict_json_object(text, PLUGCRED_OUTPUT_MAX, (char[128]){0}, 128);
	json_t *password = json_object_get(o, "password"), *user = json_object_get(o, "user");
	json_t *expires = json_object_get(o, "expires_in");
	const char *why = NULL;

	if (!o)
		why = "it is no JSON object";
	else if (!json_is_string(password))
		why = "`password` is missing, or no string";
	else if (user && !json_is_string(user))
		why = "`user` is no string";
	else if (expires && (!json_is_integer(expires) || json_integer_value(expires) < 1 ||
			     json_integer_value(expires) > USER_EXPIRES_MAX_S))
		why = "`expires_in` is no number of seconds up to 30 days";
	if (!why && user)
		why = take_user(slice_of(json_string_value(user), json_string_length(user)),
				ret->user);
	if (!why)
		why = take_password(slice_of(json_string_value(password),
					     json_string_length(password)), &ret->password);
	if (!why && expires)
		ret->expires_s = (uint64_t)json_integer_value(expires);
	strict_json_wipe(password);
	json_decref(o);
	return why;
}

const char *plugcred_parse(struct slice text, struct plugcred_output *ret)
{
	ret->user[0] = '\0';
	ret->expires_s = 0;
	buf_init(&ret->password, PASSWORD_MAX + 2);
	if (text.n > PLUGCRED_OUTPUT_MAX)
		return "it is too much";
	if (text.n && text.p[0] == '{')
		return parse_json(text, ret);
	return take_password(text, &ret->password);
}

/* ------------------------------------------------------------------ life time */

/* What the JSON parser frees has held passwords. */
static void wipe_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

struct plugcred *plugcred_new(struct ipc *ipc)
{
	struct plugcred *p = calloc(1, sizeof(*p));
	size_t seed;

	if (!p)
		return NULL;
	p->ipc = ipc;
	list_init(&p->sources);
	json_set_alloc_funcs(malloc, wipe_free);
	/* By itself it would open a device for its seed, when that is no longer possible. */
	random_bytes(&seed, sizeof(seed));
	json_object_seed(seed | 1);
	return p;
}

void plugcred_free(struct plugcred *p)
{
	if (!p)
		return;
	list_each(it, &p->sources) {
		struct source *s = container_of(it, struct source, link);

		vault_free(&s->secrets);
		free(s->waiting);
		free(s->name);
		free(s);
	}
	free(p);
}

static struct source *source_of(const struct plugcred *p, struct slice name)
{
	list_each(it, &p->sources) {
		struct source *s = container_of(it, struct source, link);

		if (slice_eq_str(name, s->name))
			return s;
	}
	return NULL;
}

static struct source *source_get(struct plugcred *p, const char *name)
{
	struct source *s = source_of(p, slice_str(name));

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->name = strdup(name);
	if (!s->name) {
		free(s);
		return NULL;
	}
	list_init(&s->secrets);
	list_add_tail(&p->sources, &s->link);
	return s;
}

/* -------------------------------------------------------------------- logins */

static void answer(const struct plugcred *p, uint64_t id, int err, const char *user)
{
	ipc_begin(p->ipc, IPC_KEY_LOGIN, id);
	ipc_put_u32(p->ipc, (uint32_t)-err);
	ipc_put_bytes(p->ipc, err ? slice_of("", 0) : slice_str(user));
	ipc_send(p->ipc);
}

static int wait_for(struct plugcred *p, struct source *s, uint64_t id)
{
	uint64_t *list;

	if (s->nwaiting == WAITING_MAX)
		return -EBUSY;
	list = reallocarray(s->waiting, s->nwaiting + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	s->waiting = list;
	list[s->nwaiting++] = id;
	if (!s->asked) {
		s->asked = true;
		ipc_begin(p->ipc, IPC_PLUGIN_ASK, 0);
		ipc_put_str(p->ipc, s->name);
		ipc_send(p->ipc);
	}
	return 0;
}

void plugcred_login(struct plugcred *p, const struct cfg_credential *c, uint64_t id)
{
	struct source *s = source_get(p, c->name);
	uint64_t now = clock_boot_ns();
	int err;

	if (s && s->now && now < s->until_boot_ns) {
		answer(p, id, 0, s->now->user);
		return;
	}
	if (s && s->error && now < s->failed_boot_ns + FAILED_MS * 1000000ull)
		err = s->error;
	else
		err = s ? wait_for(p, s, id) : -ENOMEM;
	if (err)
		answer(p, id, err, "");
}

static const char *read_output(int fd, struct plugcred_output *ret)
{
	struct buf text;
	const char *why = "it cannot be read";
	ssize_t n;

	buf_init(&text, PLUGCRED_OUTPUT_MAX + 1);
	ret->user[0] = '\0';
	buf_init(&ret->password, 0);
	if (buf_reserve(&text, PLUGCRED_OUTPUT_MAX + 1)) {
		do {
			n = read(fd, buf_data(&text) + text.n, PLUGCRED_OUTPUT_MAX + 1 - text.n);
			if (n > 0)
				buf_commit(&text, (size_t)n);
		} while (n > 0 || (n < 0 && errno == EINTR));
		why = plugcred_parse(buf_slice(&text), ret);
	}
	buf_wipe(&text);
	return why;
}

static struct secret *remember(struct source *s, const struct cfg_credential *c, const char *user,
			       struct buf *password)
{
	char *target = vault_credential_target(c->name, user);
	struct secret *old = target ? vault_of_target(&s->secrets, slice_str(target)) : NULL;
	struct secret *fresh = target ? vault_add(&s->secrets, target, user, c->exec[0]) : NULL;
	unsigned n = 0;

	free(target);
	if (!fresh)
		return NULL;
	fresh->text = *password;
	buf_init(password, 0);
	/* The same user's former password is of no use; a former user's may be in use now. */
	if (old)
		vault_remove(old);
	list_each(it, &s->secrets) n++;
	list_each(it, &s->secrets) {
		if (n-- > KEPT)
			vault_remove(container_of(it, struct secret, link));
	}
	return fresh;
}

static const char *learn(struct source *s, const struct cfg_credential *c, int fd)
{
	struct plugcred_output out;
	const char *why = read_output(fd, &out), *user = *out.user ? out.user : c->user;
	uint64_t keep_ms = c->keep_ms;

	if (!why && !user)
		why = "it does not say who logs in, and the credential has no `user`";
	if (!why && c->user && strcmp(c->user, user) != 0)
		why = "it tells another user than the credential has";
	if (!why) {
		s->now = remember(s, c, user, &out.password);
		why = s->now ? NULL : "there is no memory";
	}
	buf_wipe(&out.password);
	if (out.expires_s)
		keep_ms = (out.expires_s > 2 * EARLY_S ? out.expires_s - EARLY_S
						       : (out.expires_s + 1) / 2) * 1000;
	s->until_boot_ns = clock_boot_ns() + keep_ms * 1000000;
	return why;
}

void plugcred_told(struct plugcred *p, const struct cfg_credential *c, int err, int fd)
{
	struct source *s = source_get(p, c->name);
	const char *why;

	if (!s)
		return;
	s->now = NULL;
	if (!err) {
		why = learn(s, c, fd);
		err = why ? -EBADMSG : 0;
		if (why)
			log_error("credential %s: what its program printed is not used: %s", c->name, why);
	}
	s->asked = false;
	s->error = err;
	s->failed_boot_ns = err ? clock_boot_ns() : 0;
	for (uint32_t i = 0; i < s->nwaiting; i++)
		answer(p, s->waiting[i], err, err ? "" : s->now->user);
	s->nwaiting = 0;
}

void plugcred_stale(struct plugcred *p, struct slice name)
{
	struct source *s = source_of(p, name);

	if (s)
		s->until_boot_ns = 0;
}

struct secret *plugcred_find(const struct plugcred *p, struct slice target)
{
	list_each(it, &p->sources) {
		struct secret *s = vault_of_target(
			&container_of(it, struct source, link)->secrets, target);

		if (s)
			return s;
	}
	return NULL;
}
