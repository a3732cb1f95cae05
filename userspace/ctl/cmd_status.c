/* SPDX-License-Identifier: MIT */
/*
 * tidegate status: is it all right, and if not, what is to be done. Targets that
 * are off come first and loud; counters only if they are not zero.
 */
#include "base/reason.h"
#include "ctl/ctl.h"
#include "kern/kern.h"

enum { LABEL = 12, COUNTER = 26 };

static const struct {
	const char *label, *what;
} kernel_words[] = {
#define X(name, label, what) {label, what},
	TG_KERNEL_COUNTERS(X)
#undef X
};

static void put(const json_t *v)
{
	if (json_is_string(v))
		out_escaped(slice_of(json_string_value(v), json_string_length(v)));
	else if (json_is_integer(v))
		(void)printf("%lld", (long long)json_integer_value(v));
	else
		(void)putchar('-');
}

/* "label      text", or the text below the last label. */
static void label(const char *name)
{
	(void)printf("%-*s", LABEL, name);
}

static void duration(const json_t *ms)
{
	char text[32];

	out_duration((uint64_t)json_integer_value(ms), text, sizeof(text));
	(void)fputs(text, stdout);
}

static void print_off(const json_t *targets)
{
	static const struct out_col cols[] = {
		{"OFF: UNGUARDED", "name", OUT_TEXT, 0},
		{"BY", "off.by", OUT_TEXT, 0},
		{"SINCE", "off.since", OUT_AGO, 0},
		{"ENDS IN", "off.until", OUT_LEFT, 0},
		{"REASON", "off.reason", OUT_TEXT, OUT_SHRINKS},
	};

	if (json_array_size(targets) == 0)
		return;
	(void)putchar('\n');
	out_table(targets, cols, ARRAY_SIZE(cols));
	(void)puts("Agents reach these directly. `tidegate target reset NAME` ends that.");
}

static void print_workers(const json_t *workers)
{
	json_int_t sessions = 0, restarts = 0;
	const json_t *w;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)workers, i, w)
	{
		sessions += json_integer_value(json_object_get(w, "sessions"));
		restarts += json_integer_value(json_object_get(w, "restarts"));
	}
	label("workers");
	(void)printf("%zu, with %lld sessions", json_array_size(workers), (long long)sessions);
	if (restarts)
		(void)printf("; %lld restarts: see the journal of tidegated", (long long)restarts);
	(void)putchar('\n');
}

/* Since when it is so, where it is not well. */
static void put_since(const json_t *o)
{
	if (json_is_true(json_object_get(o, "ok")) || !json_is_string(json_object_get(o, "since")))
		return;
	(void)fputs(" since ", stdout);
	put(json_object_get(o, "since"));
}

static void print_idp(const json_t *idp)
{
	const json_t *ok = json_object_get(idp, "ok");

	label("idp");
	if (!json_is_object(idp) || json_object_size(idp) == 0) {
		(void)puts("none: the built-in approver decides, see `tidegate approval list`");
		return;
	}
	put(json_object_get(idp, "issuer"));
	if (json_is_boolean(ok))
		(void)fputs(json_is_true(ok) ? ": ok" : ": NOT USABLE", stdout);
	put_since(idp);
	if (json_is_string(json_object_get(idp, "detail"))) {
		(void)fputs(", ", stdout);
		put(json_object_get(idp, "detail"));
	}
	(void)putchar('\n');
}

/* Grants that go on although the provider does not say that they still hold. */
static void print_rechecks(const json_t *list)
{
	const json_t *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		label(i ? "" : "rechecks");
		put(json_object_get(o, "way"));
		if (json_is_string(json_object_get(o, "issuer"))) {
			(void)fputs(" at ", stdout);
			put(json_object_get(o, "issuer"));
		}
		(void)printf(": %lld grants with %lld sessions NOT CONFIRMED since ",
			     (long long)json_integer_value(json_object_get(o, "grants")),
			     (long long)json_integer_value(json_object_get(o, "sessions")));
		put(json_object_get(o, "since"));
		(void)fputs(", the first end at ", stdout);
		put(json_object_get(o, "ends"));
		(void)putchar('\n');
		label("");
		(void)fputs("  ", stdout);
		put(json_object_get(o, "why"));
		(void)fputs(": ", stdout);
		put(json_object_get(o, "todo"));
		(void)putchar('\n');
	}
}

/* Decision points, and issuers of assertions. */
static void print_ways(const json_t *list)
{
	const json_t *way, *ok, *where;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, way)
	{
		where = json_object_get(way, "decision_point");
		if (!where)
			where = json_object_get(way, "url");
		label(i ? "" : "approvals");
		put(json_object_get(way, "name"));
		(void)fputs(" by ", stdout);
		put(json_object_get(way, "by"));
		(void)fputs(", ", stdout);
		put(where ? where : json_object_get(way, "issuer"));
		ok = json_object_get(way, "ok");
		if (json_is_boolean(ok))
			(void)fputs(json_is_true(ok) ? ": ok" : ": NOT USABLE", stdout);
		put_since(way);
		if (json_is_string(json_object_get(way, "detail"))) {
			(void)fputs(", ", stdout);
			put(json_object_get(way, "detail"));
		}
		(void)putchar('\n');
	}
}

/* Whose agents' own tokens are: without its keys none can be verified. */
static void print_issuers(const json_t *list)
{
	const json_t *one, *ok, *agents, *age;
	size_t i, k;

	json_array_foreach((json_t *)(uintptr_t)list, i, one)
	{
		label(i ? "" : "tokens of");
		agents = json_object_get(one, "agents");
		for (k = 0; k < json_array_size(agents); k++) {
			(void)fputs(k ? ", " : "", stdout);
			put(json_array_get(agents, k));
		}
		(void)fputs(" by ", stdout);
		put(json_object_get(one, "issuer"));
		ok = json_object_get(one, "ok");
		age = json_object_get(one, "keys_age_ms");
		if (json_is_boolean(ok))
			(void)fputs(json_is_true(ok) ? ": ok" : ": NOT USABLE", stdout);
		put_since(one);
		if (age) {
			(void)printf(", %lld keys, fetched ",
				     (long long)json_integer_value(json_object_get(one, "keys")));
			duration(age);
			(void)fputs(" ago", stdout);
		}
		if (json_is_string(json_object_get(one, "detail"))) {
			(void)fputs(", last error: ", stdout);
			put(json_object_get(one, "detail"));
		}
		(void)putchar('\n');
	}
}

/* Which key signs what is decided; it lies beside the recordings under this name. */
static void print_receipts(const json_t *key)
{
	if (!json_is_string(key))
		return;
	label("receipts");
	if (json_string_length(key))
		(void)printf("signed with %s\n", json_string_value(key));
	else
		(void)puts("NOT SIGNED, so nothing is approved: see the journal of tidegated for keyd");
}

/* Roles that live as long as a grant; what cannot be dropped is among the warnings. */
static void print_roles(const json_t *roles)
{
	const json_t *list = json_object_get(roles, "roles"), *r;
	size_t i, ending = 0;
	json_int_t left = json_integer_value(json_object_get(roles, "left_behind"));

	json_array_foreach((json_t *)(uintptr_t)list, i, r)
	{
		const char *state = json_string_value(json_object_get(r, "state"));

		ending += state && strcmp(state, "dropping") == 0;
	}
	if (json_array_size(list) == 0 && json_integer_value(json_object_get(roles, "made")) == 0 &&
	    left == 0)
		return;
	label("roles");
	(void)printf("%zu, %zu of them to be dropped; %lld made, %lld dropped",
		     json_array_size(list), ending,
		     (long long)json_integer_value(json_object_get(roles, "made")),
		     (long long)json_integer_value(json_object_get(roles, "dropped")));
	if (left)
		(void)printf(", %lld found that were left behind", (long long)left);
	(void)putchar('\n');
}

/* Network namespaces of agents besides the daemon's own; one without lo reaches nothing. */
static void print_namespaces(const json_t *list)
{
	size_t i, down = 0;
	const json_t *ns;

	if (json_array_size(list) == 0)
		return;
	json_array_foreach((json_t *)(uintptr_t)list, i, ns)
		down += json_is_false(json_object_get(ns, "lo_up"));
	label("namespaces");
	(void)printf("%zu of agents, with listeners", json_array_size(list));
	if (down)
		(void)printf("; in %zu lo is down, so that nothing is reached there", down);
	(void)putchar('\n');
	json_array_foreach((json_t *)(uintptr_t)list, i, ns)
	{
		if (!json_is_false(json_object_get(ns, "lo_up")))
			continue;
		label("");
		put(json_object_get(ns, "cookie"));
		(void)fputs(", agent ", stdout);
		put(json_object_get(ns, "agent"));
		(void)fputs(", pid ", stdout);
		put(json_object_get(ns, "pid"));
		(void)puts(": lo is down");
	}
}

static bool is_on(const json_t *target)
{
	const char *dirs = json_string_value(json_object_get(target, "directions"));

	return dirs && strcmp(dirs, "off") != 0;
}

/*
 * What a program on an accelerated connection can tell. A direction that has fallen back to TCP
 * is told apart only where it is not as bad as the accelerated one.
 */
static void print_differences(const json_t *rows, bool both)
{
	static const char *const ways[] = {"both", "requests", "fallen_back"};
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)rows, i, row)
	{
		json_t *tcp = json_object_get(row, "tcp"), *seen = NULL;
		size_t w = both ? 0 : 1;

		for (; w < ARRAY_SIZE(ways); w++) {
			seen = json_object_get(row, ways[w]);
			if (!json_equal(tcp, seen))
				break;
		}
		if (w == ARRAY_SIZE(ways))
			continue;
		label("");
		(void)fputs("  ", stdout);
		put(json_object_get(row, "row"));
		(void)fputs(": ", stdout);
		put(seen);
		(void)fputs(w > (both ? 0u : 1u) ? " (once back on TCP); TCP: " : "; TCP: ", stdout);
		put(tcp);
		(void)putchar('\n');
	}
}

/* Only what was asked for; that `auto` is off on a kernel is told once. */
static void print_accelerator(const json_t *a)
{
	const json_t *t, *silent = NULL;
	size_t i, shown = 0;
	bool both = false, on = false;

	json_array_foreach(json_object_get(a, "targets"), i, t)
	{
		const char *word = json_string_value(json_object_get(t, "accelerate"));

		if (!is_on(t) && (!word || strcmp(word, "on") != 0)) {
			if (word && strcmp(word, "auto") == 0)
				silent = t;
			continue;
		}
		label(shown++ ? "" : "accelerator");
		(void)fputs(is_on(t) ? "on for " : "OFF for ", stdout);
		put(json_object_get(t, "target"));
		(void)fputs(is_on(t) ? ", " : ": ", stdout);
		put(json_object_get(t, is_on(t) ? "directions" : "why"));
		(void)putchar('\n');
		if (!is_on(t))
			continue;
		on = true;
		both |= strcmp(json_string_value(json_object_get(t, "directions")), "both") == 0;
	}
	if (on && json_array_size(json_object_get(a, "differs"))) {
		label("");
		(void)puts("there these calls differ from plain TCP:");
		print_differences(json_object_get(a, "differs"), both);
	}
	if (silent && !shown) {
		label("accelerator");
		(void)fputs("off: ", stdout);
		put(json_object_get(silent, "why"));
		(void)putchar('\n');
	}
}

static void print_warnings(const json_t *warnings)
{
	const json_t *w;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)warnings, i, w)
	{
		label(i ? "" : "warnings");
		put(w);
		(void)putchar('\n');
	}
}

/* What the file says and the daemon does not do. */
static void print_pending(const json_t *list)
{
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, e)
	{
		label(i ? "" : "not yet");
		put(json_object_get(e, "text"));
		(void)putchar('\n');
	}
}

/* Always a line, as somebody who reads "all is well" must not forget them. */
static void print_gaps(const json_t *gaps)
{
	const json_t *g;
	size_t i;

	if (json_array_size(gaps) == 0)
		return;
	label("not closed");
	json_array_foreach((json_t *)(uintptr_t)gaps, i, g)
	{
		(void)fputs(i ? ", " : "", stdout);
		put(json_object_get(g, "way"));
	}
	(void)puts(": see `tidegate feature probe`");
}

static const char *words(const char *name, bool kernel, const char **ret_todo)
{
	*ret_todo = "";
	for (size_t i = 0; kernel && i < ARRAY_SIZE(kernel_words); i++)
		if (strcmp(kernel_words[i].label, name) == 0)
			return kernel_words[i].what;
	for (uint16_t r = 0; !kernel && r < TG_R_COUNT; r++) {
		if (strcmp(reason_label(r), name) != 0)
			continue;
		*ret_todo = reason_todo(r);
		return reason_what(r);
	}
	return "";
}

static void print_counters(const char *title, const json_t *counters, bool kernel)
{
	const json_t *v;
	const char *name;
	bool first = true;

	json_object_foreach((json_t *)(uintptr_t)counters, name, v)
	{
		const char *todo, *what = words(name, kernel, &todo);
		char safe[64];

		if (json_integer_value(v) == 0)
			continue;
		(void)out_escape(slice_str(name), safe, sizeof(safe));
		(void)printf("%s%s%-*s %10lld%s%s%s%s\n", first ? title : "", first ? "\n" : "",
			     COUNTER, safe, (long long)json_integer_value(v), *what ? "  " : "",
			     what, *todo ? "; " : "", todo);
		first = false;
	}
}

static void print_status(const json_t *s)
{
	(void)fputs("tidegated ", stdout);
	put(json_object_get(s, "version"));
	(void)fputs(", pid ", stdout);
	put(json_object_get(s, "pid"));
	(void)fputs(", up ", stdout);
	duration(json_object_get(s, "uptime_ms"));
	(void)putchar('\n');
	print_off(json_object_get(s, "targets_off"));
	(void)putchar('\n');
	label("bpf");
	put(json_object_get(s, "bpf"));
	(void)putchar('\n');
	print_workers(json_object_get(s, "workers"));
	print_idp(json_object_get(s, "idp"));
	print_rechecks(json_object_get(s, "rechecks_failing"));
	print_ways(json_object_get(s, "approvals"));
	print_issuers(json_object_get(s, "token_issuers"));
	print_receipts(json_object_get(s, "receipt_key"));
	print_roles(json_object_get(s, "roles"));
	print_namespaces(json_object_get(s, "namespaces"));
	print_accelerator(json_object_get(s, "accelerator"));
	print_warnings(json_object_get(s, "warnings"));
	print_pending(json_object_get(s, "pending"));
	print_gaps(json_object_get(s, "gaps"));
	print_counters("\nRefused, ended or replaced since the start:",
		       json_object_get(s, "counters"), false);
	print_counters("\nIn the kernel:", json_object_get(s, "kernel"), true);
}

/* --------------------------------------------- while the daemon is down */

static json_t *kernel_counters(struct kern *k)
{
	uint64_t n[TG_K_COUNT] = {0};
	json_t *o = json_object();

	if (kern_counters(k, n) == 0)
		for (size_t i = 0; i < TG_K_COUNT; i++)
			(void)json_object_set_new(o, kernel_words[i].label,
						  json_integer((json_int_t)n[i]));
	return o;
}

static json_t *only_off(const json_t *targets)
{
	json_t *list = json_array(), *t;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)targets, i, t)
	{
		const char *mode = json_string_value(json_object_get(t, "mode"));

		if (mode && strcmp(mode, "off") == 0)
			(void)json_array_append(list, t);
	}
	return list;
}

/*
 * What the maps tell. Quietly nothing where nothing is pinned: that the daemon is
 * down has been said, and that agents are not guarded either follows.
 */
static json_t *down(struct ctl *c)
{
	json_t *o = json_pack("{s:b}", "running", 0), *targets = NULL;
	struct kern *k = NULL;

	if (pins_try(c, &k)) {
		(void)json_object_set_new(o, "pinned", json_false());
		return o;
	}
	(void)json_object_set_new(o, "pinned", json_true());
	(void)json_object_set_new(o, "kernel", kernel_counters(k));
	kern_close(k);
	if (pins_targets_try(c, &targets) == 0) {
		(void)json_object_set_new(o, "targets_off", only_off(targets));
		json_decref(targets);
	}
	return o;
}

static int status_down(struct ctl *c)
{
	json_t *o = down(c);

	if (c->json) {
		(void)out_json(c, o);
	} else {
		(void)printf("tidegated is NOT RUNNING: nobody listens at %s\n%s\n", client_path(c),
			     json_is_true(json_object_get(o, "pinned"))
				     ? "Agents are refused at every target that is neither off nor "
				       "fail-open. Start it:\n`systemctl start tidegated`"
				     : "Nothing is pinned either: agents reach targets UNGUARDED. "
				       "Start it:\n`systemctl start tidegated`");
		print_off(json_object_get(o, "targets_off"));
		print_counters("\nIn the kernel:", json_object_get(o, "kernel"), true);
	}
	json_decref(o);
	return CTL_NO_DAEMON;
}

static int do_status(struct ctl *c, int argc, char **argv)
{
	json_t *s;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc)
		return rc;
	if (client_present(c) == 0)
		return status_down(c);
	rc = client_call(c, TG_CTL_STATUS, NULL, &s);
	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, s);
	else
		print_status(s);
	json_decref(s);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"show", do_status, "",
	 "is it all right, and if not, what to do; exit status 3: no daemon"},
};

int cmd_status(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "status", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
