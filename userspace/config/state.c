/* SPDX-License-Identifier: MIT */
#include "config/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/text.h"

enum { STATE_VERSION = 1, FILE_MAX = 16 << 20, ARENA_MAX = 64 << 20, LOCK_TRIES = 20 };
enum { LOCK_WAIT_US = 50000 };

static PRINTF(2, 3) int complain(struct buf *error, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)!buf_append_slice(error, slice_str(text));
	return -EBADMSG;
}

static int path_of(const char *dir, const char *name, char *dst, size_t cap)
{
	int n = snprintf(dst, cap, "%s/%s", dir, name);

	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

/* ----------------------------------------------------------------- reading */

static int read_file(const char *path, struct buf *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;

	if (fd < 0)
		return -errno;
	while (rc == 0) {
		uint8_t *p = buf_reserve(ret, 4096);
		ssize_t n;

		if (!p) {
			rc = -EFBIG;
			break;
		}
		n = read(fd, p, 4096);
		if (n > 0)
			buf_commit(ret, (size_t)n);
		else if (n == 0)
			break;
		else if (errno != EINTR)
			rc = -errno;
	}
	(void)close(fd);
	return rc;
}

/* The array @list of the document in @dir/@name; *ret_doc owns it. */
static int load(const char *dir, const char *name, const char *list, json_t **ret_doc,
		const json_t **ret_list, struct buf *error)
{
	char path[512];
	json_error_t je;
	struct buf text;
	json_t *doc;
	int rc = path_of(dir, name, path, sizeof(path));

	if (rc)
		return rc;
	buf_init(&text, FILE_MAX);
	rc = read_file(path, &text);
	if (rc) {
		(void)complain(error, "%s: %s", path, strerror(-rc));
		buf_done(&text);
		return rc;
	}
	doc = json_loadb((const char *)buf_data(&text), text.n, JSON_REJECT_DUPLICATES, &je);
	buf_done(&text);
	if (!doc)
		return complain(error, "%s:%d:%d: %s", path, je.line, je.column, je.text);
	if (json_integer_value(json_object_get(doc, "version")) != STATE_VERSION ||
	    !json_is_array(json_object_get(doc, list))) {
		rc = complain(error, "%s: not a file of version %d with `%s`", path, STATE_VERSION,
			      list);
		json_decref(doc);
		return rc;
	}
	*ret_doc = doc;
	*ret_list = json_object_get(doc, list);
	return 0;
}

/* A member that must be a string; NULL if it is not or memory is out. */
static const char *string(struct arena *a, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_string(v))
		return NULL;
	return arena_strdup(a, slice_of(json_string_value(v), json_string_length(v)));
}

static bool u32(const json_t *o, const char *key, uint32_t *ret)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
		return false;
	*ret = (uint32_t)json_integer_value(v);
	return true;
}

static bool boolean(const json_t *o, const char *key, bool *ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = json_is_true(v);
	return json_is_boolean(v);
}

static bool mode(const json_t *o, enum target_mode *ret)
{
	const char *text = json_string_value(json_object_get(o, "mode"));
	int m = text ? target_mode_parse(slice_str(text)) : -1;

	if (m >= 0)
		*ret = (enum target_mode)m;
	return m >= 0;
}

static bool when(const json_t *o, const char *key, uint64_t *ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = 0;
	if (json_is_null(v))
		return true;
	return json_is_string(v) && text_parse_time(slice_str(json_string_value(v)), ret) == 0;
}

static bool read_target(struct arena *a, const json_t *o, struct state_target *t)
{
	const json_t *list = json_object_get(o, "addresses");
	size_t n = json_array_size(list);
	const char **addresses;

	t->name = string(a, o, "name");
	t->protocol = string(a, o, "protocol");
	if (!t->name || !t->protocol || !u32(o, "id", &t->id) || !mode(o, &t->mode) ||
	    !boolean(o, "fail_open", &t->fail_open) || !json_is_array(list))
		return false;
	addresses = arena_alloc(a, (n + 1) * sizeof(*addresses));
	if (!addresses)
		return false;
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(list, i);

		addresses[i] =
			json_is_string(v) ? arena_strdup(a, slice_str(json_string_value(v))) : NULL;
		if (!addresses[i])
			return false;
	}
	t->addresses = addresses;
	t->naddresses = (uint32_t)n;
	return true;
}

static bool read_toggle(struct arena *a, const json_t *o, struct state_toggle *t)
{
	const char *text = json_string_value(json_object_get(o, "mode"));

	t->name = string(a, o, "name");
	t->reason = string(a, o, "reason");
	t->reset = text && strcmp(text, "reset") == 0;
	return t->name && t->reason && (t->reset || mode(o, &t->mode)) &&
	       u32(o, "by_uid", &t->by_uid) && when(o, "since", &t->since_wall_ns) &&
	       when(o, "until", &t->until_wall_ns) && boolean(o, "recorded", &t->recorded);
}

int state_targets_load(const char *dir, struct state_targets *ret, struct buf *error)
{
	const json_t *list;
	json_t *doc;
	int rc;

	*ret = (struct state_targets){0};
	arena_init(&ret->arena, ARENA_MAX);
	rc = load(dir, STATE_TARGETS, "targets", &doc, &list, error);
	if (rc)
		return rc;
	ret->t = arena_alloc(&ret->arena, (json_array_size(list) + 1) * sizeof(*ret->t));
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
		if (ret->t && read_target(&ret->arena, json_array_get(list, i), &ret->t[i]))
			ret->n++;
		else
			rc = complain(error,
				      "%s/" STATE_TARGETS ": targets[%zu] is not in the format",
				      dir, i);
	}
	json_decref(doc);
	if (rc)
		state_targets_done(ret);
	return rc;
}

int state_agents_load(const char *dir, struct state_agents *ret, struct buf *error)
{
	const json_t *list;
	json_t *doc;
	int rc;

	*ret = (struct state_agents){0};
	arena_init(&ret->arena, ARENA_MAX);
	rc = load(dir, STATE_AGENTS, "agents", &doc, &list, error);
	if (rc)
		return rc;
	ret->a = arena_alloc(&ret->arena, (json_array_size(list) + 1) * sizeof(*ret->a));
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);

		if (ret->a && u32(o, "id", &ret->a[i].id) && ret->a[i].id &&
		    (ret->a[i].name = string(&ret->arena, o, "name")))
			ret->n++;
		else
			rc = complain(error, "%s/" STATE_AGENTS ": agents[%zu] is not in the format",
				      dir, i);
	}
	json_decref(doc);
	if (rc)
		state_agents_done(ret);
	return rc;
}

int state_toggles_load(const char *dir, struct state_toggles *ret, struct buf *error)
{
	const json_t *list;
	json_t *doc;
	int rc;

	*ret = (struct state_toggles){0};
	arena_init(&ret->arena, ARENA_MAX);
	rc = load(dir, STATE_TOGGLES, "toggles", &doc, &list, error);
	if (rc)
		return rc;
	ret->t = arena_alloc(&ret->arena, (json_array_size(list) + 1) * sizeof(*ret->t));
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
		if (ret->t && read_toggle(&ret->arena, json_array_get(list, i), &ret->t[i]))
			ret->n++;
		else
			rc = complain(error,
				      "%s/" STATE_TOGGLES ": toggles[%zu] is not in the format",
				      dir, i);
	}
	json_decref(doc);
	if (rc)
		state_toggles_done(ret);
	return rc;
}

void state_targets_done(struct state_targets *s)
{
	arena_done(&s->arena);
	s->t = NULL;
	s->n = 0;
}

void state_agents_done(struct state_agents *s)
{
	arena_done(&s->arena);
	s->a = NULL;
	s->n = 0;
}

void state_toggles_done(struct state_toggles *s)
{
	arena_done(&s->arena);
	s->t = NULL;
	s->n = 0;
}

/* ----------------------------------------------------------------- writing */

/* rename() alone does not survive a power cut: first the file, then its directory. */
static int replace(const char *tmp, const char *path, const char *dir, const char *text)
{
	size_t n = strlen(text), done = 0;
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	while (done < n && rc == 0) {
		ssize_t w = write(fd, text + done, n - done);

		if (w >= 0)
			done += (size_t)w;
		else if (errno != EINTR)
			rc = -errno;
	}
	if (rc == 0 && write(fd, "\n", 1) != 1)
		rc = -EIO;
	if (rc == 0 && fsync(fd))
		rc = -errno;
	if (close(fd) && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(tmp, path))
		rc = -errno;
	if (rc) {
		(void)unlink(tmp);
		return rc;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fsync(fd) ? -errno : 0;
	(void)close(fd);
	return rc;
}

/* Takes @list over. */
static int save(const char *dir, const char *name, const char *key, json_t *list)
{
	char path[512], tmp[540];
	json_t *doc = list ? json_pack("{s:i, s:o}", "version", STATE_VERSION, key, list) : NULL;
	char *text = doc ? json_dumps(doc, JSON_INDENT(2)) : NULL;
	int rc = text ? path_of(dir, name, path, sizeof(path)) : -ENOMEM;

	if (rc == 0) {
		(void)snprintf(tmp, sizeof(tmp), "%s.%d.new", path, (int)getpid());
		rc = replace(tmp, path, dir, text);
	}
	free(text);
	json_decref(doc);
	return rc;
}

/* Not an array if a string is not UTF-8 or memory is out: then nothing is written. */
static json_t *add(json_t *list, json_t *element)
{
	if (list && element && json_array_append_new(list, element) == 0)
		return list;
	json_decref(list);
	return NULL;
}

int state_targets_save(const char *dir, const struct state_target *t, uint32_t n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n && list; i++) {
		json_t *addresses = json_array();

		for (uint32_t k = 0; k < t[i].naddresses && addresses; k++)
			addresses = add(addresses, json_string(t[i].addresses[k]));
		list = add(list,
			   json_pack("{s:I, s:s, s:s, s:o, s:s, s:b}", "id", (json_int_t)t[i].id,
				     "name", t[i].name, "protocol", t[i].protocol, "addresses",
				     addresses, "mode", target_mode_name(t[i].mode), "fail_open",
				     (int)t[i].fail_open));
	}
	return list ? save(dir, STATE_TARGETS, "targets", list) : -EINVAL;
}

int state_agents_save(const char *dir, const struct state_agent *a, uint32_t n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n && list; i++)
		list = add(list, json_pack("{s:I, s:s}", "id", (json_int_t)a[i].id, "name", a[i].name));
	return list ? save(dir, STATE_AGENTS, "agents", list) : -EINVAL;
}

static json_t *time_json(uint64_t wall_ns)
{
	char text[32];

	if (wall_ns == 0)
		return json_null();
	text_time(wall_ns, text, sizeof(text));
	return json_string(text);
}

int state_toggles_save(const char *dir, const struct state_toggle *t, uint32_t n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n && list; i++)
		list = add(list,
			   json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:b}", "name", t[i].name,
				     "mode", t[i].reset ? "reset" : target_mode_name(t[i].mode),
				     "reason", t[i].reason, "by_uid", (json_int_t)t[i].by_uid,
				     "since", time_json(t[i].since_wall_ns), "until",
				     time_json(t[i].until_wall_ns), "recorded",
				     (int)t[i].recorded));
	return list ? save(dir, STATE_TOGGLES, "toggles", list) : -EINVAL;
}

/* ----------------------------------------------------------------- toggles */

const struct state_target *state_target_find(const struct state_targets *s, const char *name)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (strcmp(s->t[i].name, name) == 0)
			return &s->t[i];
	return NULL;
}

const struct state_toggle *state_toggle_last(const struct state_toggles *s, const char *name)
{
	for (uint32_t i = s->n; i > 0; i--)
		if (strcmp(s->t[i - 1].name, name) == 0)
			return &s->t[i - 1];
	return NULL;
}

bool state_toggle_active(const struct state_toggle *t, uint64_t wall_ns)
{
	return t && !t->reset && (t->until_wall_ns == 0 || t->until_wall_ns > wall_ns);
}

/* Keeps in place, in order, what still says something. */
static void drop(struct state_toggles *s, uint64_t wall_ns)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct state_toggle *t = &s->t[i];
		bool last = state_toggle_last(s, t->name) == t;

		/* state_toggle_last() searches from the end, which is not moved yet. */
		if (!t->recorded || (last && state_toggle_active(t, wall_ns)))
			s->t[kept++] = *t;
	}
	s->n = kept;
}

void state_toggles_compact(struct state_toggles *s, uint64_t wall_ns)
{
	for (uint32_t i = 0; i < s->n; i++)
		s->t[i].recorded = true;
	drop(s, wall_ns);
}

int state_lock(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = EAGAIN;

	if (fd < 0)
		return -errno;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		err = errno;
		if (err != EWOULDBLOCK && err != EINTR)
			break;
		(void)usleep(LOCK_WAIT_US);
	}
	(void)close(fd);
	return -err;
}

void state_unlock(int fd)
{
	(void)flock(fd, LOCK_UN);
	(void)close(fd);
}

static int append(const char *dir, const struct state_toggle *t, struct buf *error)
{
	struct state_toggles s;
	struct state_toggle *grown;
	int rc = state_toggles_load(dir, &s, error);

	if (rc && rc != -ENOENT)
		return rc;
	buf_reset(error);
	/* The loader leaves room for one more; an empty file has no room at all. */
	grown = s.t ? s.t : arena_alloc(&s.arena, sizeof(*grown));
	if (!grown) {
		state_toggles_done(&s);
		return -ENOMEM;
	}
	s.t = grown;
	s.t[s.n++] = *t;
	drop(&s, t->since_wall_ns);
	rc = state_toggles_save(dir, s.t, s.n);
	if (rc)
		(void)complain(error, "%s/" STATE_TOGGLES ": %s", dir, strerror(-rc));
	state_toggles_done(&s);
	return rc;
}

int state_toggle_append(const char *dir, const struct state_toggle *t, struct buf *error)
{
	int lock = state_lock(dir), rc;

	if (lock < 0) {
		(void)complain(error, "%s: %s", dir, strerror(-lock));
		return lock;
	}
	rc = append(dir, t, error);
	state_unlock(lock);
	return rc;
}

/* --------------------------------------------------------------- addresses */

enum { HEAD_BITS = 32, V4_BITS = 96 }; /* of tg_addr_key; of a v4-mapped address */

static bool is_v4(const uint8_t addr[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(addr, mapped, sizeof(mapped)) == 0;
}

void state_addr_format(const struct tg_addr_key *key, char dst[STATE_ADDR_TEXT])
{
	unsigned bits = key->prefixlen > HEAD_BITS ? key->prefixlen - HEAD_BITS : 0;
	bool v4 = is_v4(key->addr) && bits >= V4_BITS;
	unsigned full = v4 ? 32 : 128, port = load_be16((const uint8_t *)&key->port_be);
	char ip[INET6_ADDRSTRLEN], net[8] = "", number[8] = "*";

	if (v4)
		bits -= V4_BITS;
	(void)inet_ntop(v4 ? AF_INET : AF_INET6, key->addr + (v4 ? 12 : 0), ip, sizeof(ip));
	if (bits < full)
		(void)snprintf(net, sizeof(net), "/%u", bits & 127);
	if (port)
		(void)snprintf(number, sizeof(number), "%u", port);
	(void)snprintf(dst, STATE_ADDR_TEXT, v4 ? "%s%s:%s" : "[%s]%s:%s", ip, net, number);
}

/* Clears what lies behind the prefix: LPM tries do not, and a look-up would miss. */
static void clear_host(uint8_t addr[16], unsigned bits)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = bits > i * 8 ? bits - i * 8 : 0;

		if (keep < 8)
			addr[i] &= (uint8_t)(0xff00 >> keep);
	}
}

int state_addr_parse(struct slice s, struct tg_addr_key *ret)
{
	struct tg_addr_key key = {.protocol = IPPROTO_TCP};
	char text[STATE_ADDR_TEXT], *ip = text, *port, *net, *close;
	uint64_t number = 0, bits, full;
	bool v6;

	if (s.n >= sizeof(text) || memchr(s.p, 0, s.n))
		return -EINVAL;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	v6 = text[0] == '[';
	close = v6 ? strchr(text, ']') : text;
	port = close ? strrchr(close, ':') : NULL;
	if (!port)
		return -EINVAL;
	*port++ = '\0';
	net = strchr(close, '/');
	if (net)
		*net++ = '\0';
	if (v6) {
		if (close[1])
			return -EINVAL;
		*close = '\0';
		ip++;
	}
	full = bits = v6 ? 128 : 32;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, ip, key.addr + (v6 ? 0 : 12)) != 1 ||
	    (net && text_parse_u64(slice_str(net), 0, full, &bits)) ||
	    (strcmp(port, "*") != 0 && text_parse_u64(slice_str(port), 1, 65535, &number)))
		return -EINVAL;
	if (!v6) {
		key.addr[10] = key.addr[11] = 0xff;
		bits += V4_BITS;
	}
	clear_host(key.addr, (unsigned)bits);
	key.prefixlen = HEAD_BITS + (uint32_t)bits;
	key.port_be = htons((uint16_t)number);
	*ret = key;
	return 0;
}
