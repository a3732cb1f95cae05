/* SPDX-License-Identifier: MIT */
#include "config/yaml.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdarg.h>

#include "base/slice.h"
#include "base/text.h"

struct anchor {
	struct slice name;
	struct ynode *node;
};

struct builder {
	struct arena *arena;
	struct yaml_error *error;
	struct ynode *root;
	struct {
		struct ynode *node;
		struct ynode *key;   /* read, its value is due */
		struct slice anchor; /* given to the node when it is complete */
	} stack[YAML_DEPTH_MAX];
	unsigned depth;
	struct anchor anchors[YAML_ANCHORS_MAX];
	unsigned nanchors;
	uint32_t line, column; /* of the event at hand */
};

static int refuse(struct builder *b, uint32_t line, uint32_t column, const char *fmt, ...)
	PRINTF(4, 5);

static int refuse(struct builder *b, uint32_t line, uint32_t column, const char *fmt, ...)
{
	va_list ap;

	b->error->line = line;
	b->error->column = column;
	va_start(ap, fmt);
	(void)vsnprintf(b->error->text, sizeof(b->error->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* libfyaml is given only text: valid UTF-8 without control bytes. */
static int check_text(struct builder *b, struct slice s)
{
	uint32_t line = 1, column = 1;

	if (s.n > YAML_TEXT_MAX)
		return refuse(b, 1, 1, "the file is larger than 1 MiB");
	while (s.n) {
		size_t n = utf8_length(s);
		uint8_t c = s.p[0];

		if (n == 0)
			return refuse(b, line, column, "not valid UTF-8 (byte 0x%02x)", c);
		if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
			return refuse(b, line, column, "control character 0x%02x", c);
		column++;
		if (c == '\n') {
			line++;
			column = 1;
		}
		s = slice_from(s, n);
	}
	return 0;
}

static struct ynode *node_new(struct builder *b, enum ynode_kind kind)
{
	struct ynode *n = arena_alloc(b->arena, sizeof(*n));

	if (!n)
		return NULL;
	n->kind = kind;
	n->line = b->line;
	n->column = b->column;
	n->expanded = 1;
	n->tail = &n->items;
	return n;
}

static struct yitem *find(const struct ynode *map, struct slice key)
{
	if (map && map->kind == YNODE_MAP)
		for (struct yitem *i = map->items; i; i = i->next)
			if (slice_eq(i->key->text, key))
				return i;
	return NULL;
}

static int append(struct builder *b, struct ynode *parent, struct ynode *key, struct ynode *value)
{
	struct yitem *i;

	if (parent->n >= YAML_ENTRIES_MAX)
		return refuse(b, value->line, value->column, "more than %d entries",
			      (int)YAML_ENTRIES_MAX);
	i = arena_alloc(b->arena, sizeof(*i));
	if (!i)
		return -ENOMEM;
	i->key = key;
	i->value = value;
	*parent->tail = i;
	parent->tail = &i->next;
	parent->n++;
	return 0;
}

/* @n is complete: its parent grows by it. */
static int count_in(struct builder *b, const struct ynode *n)
{
	struct ynode *parent = b->depth ? b->stack[b->depth - 1].node : NULL;

	if (!parent)
		return 0;
	parent->expanded += n->expanded;
	if (parent->expanded > YAML_EXPANDED_MAX)
		return refuse(b, b->line, b->column, "more than %d values once aliases are expanded",
			      (int)YAML_EXPANDED_MAX);
	return 0;
}

/* Puts @n where the document is: a root, an element, a key or a key's value. */
static int place(struct builder *b, struct ynode *n)
{
	struct ynode *parent, *key;
	struct yitem *same;

	if (b->depth == 0) {
		b->root = n;
		return 0;
	}
	parent = b->stack[b->depth - 1].node;
	if (parent->kind == YNODE_LIST)
		return append(b, parent, NULL, n);
	key = b->stack[b->depth - 1].key;
	if (key) {
		b->stack[b->depth - 1].key = NULL;
		return append(b, parent, key, n);
	}
	if (n->kind != YNODE_SCALAR)
		return refuse(b, n->line, n->column, "a key must be plain text");
	same = find(parent, n->text);
	if (same)
		return refuse(b, n->line, n->column, "this key was given before, in line %u",
			      same->key->line);
	b->stack[b->depth - 1].key = n;
	return 0;
}

static int set_anchor(struct builder *b, struct slice name, struct ynode *n)
{
	if (!name.n)
		return 0;
	if (b->nanchors == YAML_ANCHORS_MAX)
		return refuse(b, n->line, n->column, "more than %d anchors", (int)YAML_ANCHORS_MAX);
	b->anchors[b->nanchors++] = (struct anchor){.name = name, .node = n};
	return 0;
}

static int merge_one(struct builder *b, struct ynode *map, const struct ynode *from)
{
	int rc;

	if (from->kind != YNODE_MAP)
		return refuse(b, from->line, from->column, "`<<` takes mappings only");
	for (const struct yitem *i = from->items; i; i = i->next) {
		if (find(map, i->key->text))
			continue;
		rc = append(b, map, i->key, i->value);
		if (rc)
			return rc;
	}
	return 0;
}

/* `<<: *other`: the keys of another mapping that this one does not have itself. */
static int merge(struct builder *b, struct ynode *map)
{
	struct yitem **at = &map->items, *m;
	int rc = 0;

	while (*at && !((*at)->key->plain && slice_eq_str((*at)->key->text, "<<")))
		at = &(*at)->next;
	m = *at;
	if (!m)
		return 0;
	*at = m->next;
	if (map->tail == &m->next)
		map->tail = at;
	map->n--;
	if (m->value->kind != YNODE_LIST)
		return merge_one(b, map, m->value);
	for (const struct yitem *i = m->value->items; i && rc == 0; i = i->next)
		rc = merge_one(b, map, i->value);
	return rc;
}

/*
 * libfyaml 0.7.12 loses up to a kilobyte here when a scalar consists of more than
 * ten pieces (escapes in quotes, lines of a block); its other ways to the text are wrong for
 * such scalars. A configuration is read seldom: it is let be.
 */
static int copy_token(struct builder *b, struct fy_token *t, struct slice *ret)
{
	size_t n = 0;
	const char *p = t ? fy_token_get_text(t, &n) : NULL;
	char *copy = arena_strdup(b->arena, slice_of(p, p ? n : 0));

	if (!copy)
		return -ENOMEM;
	*ret = slice_of(copy, p ? n : 0);
	return 0;
}

static int open_node(struct builder *b, enum ynode_kind kind, struct fy_token *anchor)
{
	struct ynode *n = node_new(b, kind);
	struct slice name = {0};
	int rc = n ? place(b, n) : -ENOMEM;

	if (rc == 0 && anchor)
		rc = copy_token(b, anchor, &name);
	if (rc)
		return rc;
	if (b->depth == YAML_DEPTH_MAX)
		return refuse(b, n->line, n->column, "nested too deeply");
	b->stack[b->depth].node = n;
	b->stack[b->depth].key = NULL;
	b->stack[b->depth].anchor = name;
	b->depth++;
	return 0;
}

static int close_node(struct builder *b)
{
	struct ynode *n;
	int rc;

	if (b->depth == 0)
		return refuse(b, b->line, b->column, "unbalanced document");
	n = b->stack[--b->depth].node;
	rc = n->kind == YNODE_MAP ? merge(b, n) : 0;
	if (rc == 0)
		rc = set_anchor(b, b->stack[b->depth].anchor, n);
	return rc ? rc : count_in(b, n);
}

static int add_scalar(struct builder *b, const struct fy_event *e)
{
	struct ynode *n = node_new(b, YNODE_SCALAR);
	enum fy_scalar_style style = fy_token_scalar_style(e->scalar.value);
	struct slice name = {0};
	int rc = n ? copy_token(b, e->scalar.value, &n->text) : -ENOMEM;

	if (rc)
		return rc;
	n->plain = style == FYSS_PLAIN || style == FYSS_ANY;
	/* The mark of a quoted scalar lies behind the quote. */
	if ((style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) && n->column > 1)
		n->column--;
	if (e->scalar.tag)
		return refuse(b, n->line, n->column, "tags (`!...`) are not used here");
	if (e->scalar.anchor)
		rc = copy_token(b, e->scalar.anchor, &name);
	if (rc == 0)
		rc = place(b, n);
	if (rc == 0)
		rc = set_anchor(b, name, n);
	return rc ? rc : count_in(b, n);
}

static int add_alias(struct builder *b, const struct fy_event *e)
{
	struct slice name;
	int rc = copy_token(b, e->alias.anchor, &name);

	if (rc)
		return rc;
	/* The mark lies behind the `*`. */
	b->column -= b->column > 1;
	/* The last anchor of a name counts; one that is still open has none yet: no cycles. */
	for (unsigned i = b->nanchors; i-- > 0;) {
		if (!slice_eq(b->anchors[i].name, name))
			continue;
		rc = place(b, b->anchors[i].node);
		return rc ? rc : count_in(b, b->anchors[i].node);
	}
	return refuse(b, b->line, b->column, "no anchor `&%.*s` before this alias",
		      (int)min_size(name.n, 40), (const char *)name.p);
}

static int handle(struct builder *b, struct fy_event *e)
{
	const struct fy_mark *m = fy_event_start_mark(e);

	/* An empty value has no mark: it keeps that of its key. */
	if (m && m->line >= 0) {
		b->line = (uint32_t)m->line + 1;
		b->column = (uint32_t)m->column + 1;
	}
	switch (e->type) {
	case FYET_MAPPING_START:
		if (e->mapping_start.tag)
			return refuse(b, b->line, b->column, "tags (`!...`) are not used here");
		return open_node(b, YNODE_MAP, e->mapping_start.anchor);
	case FYET_SEQUENCE_START:
		if (e->sequence_start.tag)
			return refuse(b, b->line, b->column, "tags (`!...`) are not used here");
		return open_node(b, YNODE_LIST, e->sequence_start.anchor);
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		return close_node(b);
	case FYET_SCALAR:
		return add_scalar(b, e);
	case FYET_ALIAS:
		return add_alias(b, e);
	case FYET_DOCUMENT_START:
		if (b->root)
			return refuse(b, b->line, b->column, "a second document begins here");
		return 0;
	case FYET_NONE:
	case FYET_STREAM_START:
	case FYET_STREAM_END:
	case FYET_DOCUMENT_END:
		return 0;
	}
	return 0;
}

static int first_complaint(struct builder *b, struct fy_diag *diag)
{
	void *at = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &at);

	if (!e)
		return refuse(b, b->line, b->column, "not valid YAML");
	return refuse(b, e->line > 0 ? (uint32_t)e->line : 1,
		      e->column > 0 ? (uint32_t)e->column : 1, "%s", e->msg);
}

static int read_events(struct builder *b, struct fy_parser *p, struct fy_diag *diag)
{
	struct fy_event *e;
	int rc = 0;

	while (rc == 0 && (e = fy_parser_parse(p))) {
		rc = handle(b, e);
		fy_parser_event_free(p, e);
	}
	if (rc == 0 && fy_parser_get_stream_error(p))
		rc = first_complaint(b, diag);
	if (rc == 0 && (!b->root || b->depth))
		rc = refuse(b, 1, 1, "the file is empty");
	return rc;
}

int yaml_parse(struct arena *arena, struct slice text, struct ynode **ret_root,
	       struct yaml_error *ret_error)
{
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG |
					    FYPCF_DISABLE_MMAP_OPT | FYPCF_DEFAULT_VERSION_1_2 |
					    FYPCF_JSON_NONE};
	struct builder *b = arena_alloc(arena, sizeof(*b));
	struct fy_parser *p = NULL;
	struct fy_diag_cfg dcfg;
	int rc;

	if (!b)
		return -ENOMEM;
	b->arena = arena;
	b->error = ret_error;
	b->line = b->column = 1;
	rc = check_text(b, text);
	if (rc)
		return rc;
	if (text.n == 0)
		return refuse(b, 1, 1, "the file is empty");
	fy_diag_cfg_default(&dcfg);
	cfg.diag = fy_diag_create(&dcfg);
	if (!cfg.diag)
		return -ENOMEM;
	fy_diag_set_collect_errors(cfg.diag, true);
	p = fy_parser_create(&cfg);
	rc = p && fy_parser_set_string(p, (const char *)text.p, text.n) == 0 ? 0 : -ENOMEM;
	if (rc == 0)
		rc = read_events(b, p, cfg.diag);
	if (rc == 0)
		*ret_root = b->root;
	fy_parser_destroy(p);
	fy_diag_destroy(cfg.diag);
	return rc;
}

struct ynode *yaml_get(const struct ynode *map, const char *key)
{
	struct yitem *i = find(map, slice_str(key));

	return i ? i->value : NULL;
}

struct ynode *yaml_key(const struct ynode *map, const char *key)
{
	struct yitem *i = find(map, slice_str(key));

	return i ? i->key : NULL;
}

bool yaml_is_null(const struct ynode *n)
{
	return n->kind == YNODE_SCALAR && n->plain &&
	       (n->text.n == 0 || slice_eq_str(n->text, "~") || slice_eq_str(n->text, "null"));
}
