/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "config/cfgheld.h"
#include "config/cfgload.h"

enum { ARENA_MAX = 64 << 20 };

/* Not sysconf(), which reads a file: a sandboxed process loads a configuration, too. */
static uint32_t usable_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : n > 256 ? 256 : (uint32_t)n;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* All that were found, in the order of the file. */
static void print_errors(struct loader *l, const char *name, struct buf *out)
{
	uint32_t n = l->nerrors < CFG_ERRORS_MAX ? l->nerrors : CFG_ERRORS_MAX;

	for (uint32_t i = 1; i < n; i++) {
		struct cfg_error e = l->errors[i];
		uint32_t k = i;

		for (; k > 0 && (l->errors[k - 1].line > e.line ||
				 (l->errors[k - 1].line == e.line &&
				  l->errors[k - 1].column > e.column));
		     k--)
			l->errors[k] = l->errors[k - 1];
		l->errors[k] = e;
	}
	/* A full buffer cuts the list; what is in it is still true. */
	for (uint32_t i = 0; i < n; i++)
		if (buf_printf(out, "%s:%u:%u: %s\n", name, l->errors[i].line, l->errors[i].column,
			       l->errors[i].text))
			return;
	if (l->nerrors > n && buf_printf(out, "%s: and %u more\n", name, l->nerrors - n))
		return;
}

/* -error, with a line that says so; a full buffer does without. */
static int tell(struct buf *out, const char *name, int error, const char *what)
{
	int rc = buf_printf(out, "%s: %s\n", name, what);

	(void)rc;
	return -error;
}

/* One line of what the policy says: "tidegate.yaml:21: ..." or without a place. */
static void relay(struct loader *l, const char *file, char *line)
{
	struct ynode at = {.line = yaml_key(l->root, "policy")->line, .column = 1};
	size_t n = strlen(file);
	char *text = line;
	unsigned long number;

	if (strncmp(line, file, n) == 0 && line[n] == ':') {
		number = strtoul(line + n + 1, &text, 10);
		text += strspn(text, ": ");
		if (number)
			at.line = (uint32_t)number;
	}
	cfg_fail(l, &at, "%s", text);
}

static int build_policy(struct loader *l, const char *name)
{
	const char *file = base_name(name);
	char why[4096] = "", *line = why, *end;
	int rc = policy_new(l->entries, l->nentries, file, &l->c->policy, why, sizeof(why));

	for (; rc == -EINVAL && *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = '\0';
		relay(l, file, line);
	}
	if (rc == -EINVAL && !l->nerrors)
		cfg_fail(l, yaml_key(l->root, "policy"), "refused");
	return rc;
}

static int load(struct loader *l, struct slice text, const char *name)
{
	struct yaml_error bad;
	struct ynode *root;
	int rc;

	rc = yaml_parse(&l->tmp, text, &root, &bad);
	if (rc == -EINVAL) {
		struct ynode at = {.line = bad.line, .column = bad.column};

		cfg_fail(l, &at, "%s", bad.text);
	}
	if (rc)
		return rc;
	l->root = root;
	cfg_fill(l, &cfg_root_section, root, l->c, "the file");
	if (root->kind == YNODE_MAP && !l->no_memory)
		cfg_check(l);
	if (l->no_memory)
		return -ENOMEM;
	if (l->nerrors)
		return -EINVAL;
	if (!l->c->workers)
		l->c->workers = usable_cpus();
	return build_policy(l, name);
}

int config_parse(struct slice text, const char *name, struct config **ret, struct buf *error)
{
	struct loader *l = calloc(1, sizeof(*l));
	struct config *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	if (l && c) {
		arena_init(&c->arena, ARENA_MAX);
		arena_init(&l->tmp, ARENA_MAX);
		l->c = c;
		c->file = arena_strdup(&c->arena, slice_str(name));
		c->held = arena_alloc(&c->arena, sizeof(*c->held));
		rc = c->file && c->held ? load(l, text, name) : -ENOMEM;
		if (rc == -EINVAL)
			print_errors(l, name, error);
		else if (rc)
			rc = tell(error, name, -rc, strerror(-rc));
		arena_done(&l->tmp);
	}
	free(l);
	if (rc)
		config_free(c);
	else
		*ret = c;
	return rc;
}

/* The whole file in memory that the caller frees. */
static int read_file(int fd, uint8_t **ret, size_t *ret_n)
{
	size_t cap = YAML_TEXT_MAX + 1, n = 0;
	uint8_t *p = malloc(cap);

	while (p && n < cap) {
		ssize_t got = read(fd, p + n, cap - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int rc = -errno;

			free(p);
			return rc;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	if (!p)
		return -ENOMEM;
	*ret = p;
	*ret_n = n;
	return 0;
}

int config_load(const char *path, struct config **ret, struct buf *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = 0;
	uint8_t *text = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st))
		rc = -errno;
	else if (S_ISDIR(st.st_mode))
		rc = -EISDIR;
	else
		rc = read_file(fd, &text, &n);
	if (rc)
		rc = tell(error, path, -rc, strerror(-rc));
	else if (S_ISREG(st.st_mode) && (st.st_mode & S_IWOTH))
		rc = tell(error, path, EPERM, "every user may write to it: `chmod o-w` it");
	else
		rc = config_parse(slice_of(text, n), path, ret, error);
	free(text);
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	if (c->policy)
		policy_unref(c->policy);
	arena_done(&c->arena);
	free(c);
}

const struct cfg_target *config_target(const struct config *c, struct slice name)
{
	for (uint32_t i = 0; i < c->ntargets; i++)
		if (slice_eq_str(name, c->targets[i].name))
			return &c->targets[i];
	return NULL;
}

const struct cfg_agent *config_agent(const struct config *c, struct slice name)
{
	for (uint32_t i = 0; i < c->nagents; i++)
		if (slice_eq_str(name, c->agents[i].name))
			return &c->agents[i];
	return NULL;
}

const struct cfg_way *config_way(const struct config *c, struct slice name)
{
	for (uint32_t i = 0; i < c->nways; i++)
		if (slice_eq_str(name, c->ways[i].name))
			return &c->ways[i];
	return NULL;
}

bool config_has_names(const struct config *c)
{
	for (uint32_t i = 0; i < c->ntargets; i++)
		for (uint32_t k = 0; k < c->targets[i].naddrs; k++)
			if (!c->targets[i].addrs[k].literal)
				return true;
	return false;
}

/* Who may reach little else needs somebody to ask for names. */
static bool has_default_deny(const struct config *c)
{
	for (uint32_t i = 0; i < c->nagents; i++)
		if (c->agents[i].deny)
			return true;
	return false;
}

bool config_steers_dns(const struct config *c)
{
	return c->dns.steer == DNS_STEER_ON ||
	       (c->dns.steer == DNS_STEER_AUTO && (config_has_names(c) || has_default_deny(c)));
}

const struct cfg_credential *config_credential(const struct config *c, struct slice name)
{
	for (uint32_t i = 0; i < c->ncredentials; i++)
		if (slice_eq_str(name, c->credentials[i].name))
			return &c->credentials[i];
	return NULL;
}

const char *target_mode_name(enum target_mode mode)
{
	return cfg_mode_words[mode];
}

int target_mode_parse(struct slice name)
{
	for (int i = 0; cfg_mode_words[i]; i++)
		if (slice_eq_str(name, cfg_mode_words[i]))
			return i;
	return -1;
}
