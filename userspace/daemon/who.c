/* SPDX-License-Identifier: MIT */
#include "daemon/who.h"

#include "base/text.h"

enum { CLAIMS_DEEP = 4 };

static void add(struct who *w, enum fact_kind kind, struct slice name, struct slice value)
{
	if (w->facts.n == WHO_FACTS) {
		w->full = true;
		return;
	}
	w->list[w->facts.n++] = (struct policy_fact){.kind = kind, .name = name, .value = value};
}

/* Text that is made here: names with a slash, numbers. */
static struct slice keep(struct who *w, char *mem, size_t cap, size_t *used, const char *text)
{
	size_t n = strlen(text);
	char *at = mem + *used;

	if (n > cap - *used) {
		w->full = true;
		return slice_of("", 0);
	}
	memcpy(at, text, n);
	*used += n;
	return slice_of(at, n);
}

static void add_claim(struct who *w, struct slice name, const json_t *v, unsigned deep);

static void add_members(struct who *w, struct slice above, const json_t *o, unsigned deep)
{
	const char *key;
	char name[512];
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
	{
		int n = above.n ? snprintf(name, sizeof(name), "%.*s/%s", (int)above.n,
					   (const char *)above.p, key)
				: snprintf(name, sizeof(name), "%s", key);

		if (n < 0 || (size_t)n >= sizeof(name))
			w->full = true;
		else
			add_claim(w, keep(w, w->names, sizeof(w->names), &w->names_n, name), v, deep);
	}
}

static void add_claim(struct who *w, struct slice name, const json_t *v, unsigned deep)
{
	char number[32];

	if (deep == CLAIMS_DEEP) {
		w->full = true;
	} else if (json_is_object(v)) {
		add_members(w, name, v, deep + 1);
	} else if (json_is_array(v)) {
		for (size_t i = 0; i < json_array_size(v); i++)
			add_claim(w, name, json_array_get(v, i), deep + 1);
	} else if (json_is_string(v)) {
		add(w, FACT_CLAIM, name, slice_of(json_string_value(v), json_string_length(v)));
	} else if (json_is_boolean(v)) {
		add(w, FACT_CLAIM, name, slice_str(json_is_true(v) ? "true" : "false"));
	} else if (json_is_integer(v)) {
		(void)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		add(w, FACT_CLAIM, name,
		    keep(w, w->numbers, sizeof(w->numbers), &w->numbers_n, number));
	}
}

static const char *text_of(const struct who *w, const char *name)
{
	const char *s = json_string_value(json_object_get(w->doc, name));

	return s ? s : "";
}

static void know(struct who *w, enum fact_kind kind, const char *value)
{
	w->facts.known |= 1u << kind;
	if (*value)
		add(w, kind, slice_of("", 0), slice_str(value));
}

/* In no container there is no image either; in one its image may not be known. */
static void know_container(struct who *w)
{
	const char *id = text_of(w, "container"), *image = text_of(w, "image");

	know(w, FACT_CONTAINER, id);
	if (!*id || *image)
		know(w, FACT_IMAGE, image);
}

static void know_token(struct who *w)
{
	const json_t *claims = json_object_get(json_object_get(w->doc, "token"), "claims");
	const char *sub = json_string_value(json_object_get(claims, "sub"));

	if (!json_is_object(claims) || !sub)
		return;
	know(w, FACT_SUB, sub);
	add_members(w, slice_of("", 0), claims, 0);
	if (!w->full)
		w->facts.known |= 1u << FACT_CLAIM;
}

void who_init(struct who *w, const char *json)
{
	json_int_t uid;

	w->doc = json ? json_loads(json, 0, NULL) : NULL;
	w->full = false;
	w->names_n = w->numbers_n = 0;
	w->facts = (struct policy_facts){.list = w->list};
	if (!w->doc)
		return;
	uid = json_integer_value(json_object_get(w->doc, "uid"));
	if (json_is_integer(json_object_get(w->doc, "uid")) && uid >= 0) {
		(void)snprintf(w->uid, sizeof(w->uid), "%u", (unsigned)uid);
		know(w, FACT_UID, w->uid);
	}
	know_token(w);
	if (!json_is_false(json_object_get(w->doc, "process_gone")))
		return;
	if (text_of(w, "exe")[0] && !json_is_true(json_object_get(w->doc, "exe_cut")))
		know(w, FACT_EXE, text_of(w, "exe"));
	if (text_of(w, "exe_sha256")[0])
		know(w, FACT_EXE_SHA256, text_of(w, "exe_sha256"));
	if (text_of(w, "cgroup")[0])
		know_container(w);
}

void who_done(struct who *w)
{
	json_decref(w->doc);
	w->doc = NULL;
}
