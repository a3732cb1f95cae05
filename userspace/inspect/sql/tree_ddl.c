/* SPDX-License-Identifier: MIT */
/*
 * Statements that define objects, change rights, or administer the server.
 * Both effects are given where an object's definition gives rights: policies, owners,
 * user mappings, SECURITY DEFINER.
 */
#include "inspect/sql/tree_pg.h"

#include "base/reason.h"
#include "inspect/sql/lexer.h"

/* ----------------------------------------------------------------- objects */

static void note_names(struct walk *w, const struct item *it, uint32_t effects,
		       enum sql_object_kind kind, const List *names)
{
	const char *name = name_part(names, 0);

	if (name && kind != SQL_OBJ_OTHER)
		name_word(w, name, WORD_NAME);
	note(w, it, effects, kind, name_part(names, 1), name);
}

void note_node(struct walk *w, const struct item *it, uint32_t effects, enum sql_object_kind kind,
	       const Node *node)
{
	if (!node)
		return;
	switch (nodeTag(node)) {
	case T_RangeVar:
		note_relation(w, it, effects, (const RangeVar *)node);
		break;
	case T_List: {
		const List *l = (const List *)node;
		const Node *first = l->length ? linitial(l) : NULL;

		if (first && !IsA(first, String))
			note_node(w, it, effects, kind, first);
		else
			note_names(w, it, effects, kind, l);
		break;
	}
	case T_ObjectWithArgs:
		note_names(w, it, effects, SQL_OBJ_FUNCTION,
			   ((const ObjectWithArgs *)node)->objname);
		break;
	case T_TypeName:
		note_names(w, it, effects, kind, ((const TypeName *)node)->names);
		break;
	case T_String:
		note(w, it, effects, kind, NULL, strVal(node));
		break;
	case T_RoleSpec:
		note(w, it, effects, kind, NULL, ((const RoleSpec *)node)->rolename);
		break;
	case T_AccessPriv:
		note(w, it, effects, kind, NULL, ((const AccessPriv *)node)->priv_name);
		break;
	default: /* an effect without an object's name: casts, operator classes */
		note_effects(w, it, effects);
		break;
	}
}

static enum sql_object_kind kind_of(ObjectType type)
{
	switch (type) {
	case OBJECT_TABLE:
	case OBJECT_VIEW:
	case OBJECT_MATVIEW:
	case OBJECT_INDEX:
	case OBJECT_SEQUENCE:
	case OBJECT_FOREIGN_TABLE:
		return SQL_OBJ_RELATION;
	case OBJECT_FUNCTION:
	case OBJECT_PROCEDURE:
	case OBJECT_ROUTINE:
	case OBJECT_AGGREGATE:
	case OBJECT_OPERATOR:
		return SQL_OBJ_FUNCTION;
	default:
		return SQL_OBJ_OTHER;
	}
}

/* Columns, triggers, rules and policies are named behind their relation: table.name. */
static void note_object(struct walk *w, const struct item *it, uint32_t effects, ObjectType type,
			const Node *object)
{
	const List *l = (const List *)object;

	switch (type) {
	case OBJECT_COLUMN:
	case OBJECT_TABCONSTRAINT:
	case OBJECT_TRIGGER:
	case OBJECT_RULE:
	case OBJECT_POLICY:
		if (object && IsA(object, List) && list_length(l) > 1) {
			name_word(w, name_part(l, 1), WORD_NAME);
			note(w, it, effects, SQL_OBJ_RELATION, name_part(l, 2), name_part(l, 1));
			return;
		}
		break;
	case OBJECT_OPCLASS:
	case OBJECT_OPFAMILY:
		/* the first name is that of the access method */
		if (object && IsA(object, List) && list_length(l) > 1) {
			note(w, it, effects, SQL_OBJ_OTHER,
			     list_length(l) > 2 ? name_part(l, 1) : NULL, name_part(l, 0));
			return;
		}
		break;
	default:
		break;
	}
	note_node(w, it, effects, kind_of(type), object);
}

/* ----------------------------------------------------------------- secrets */

/* The string that follows @from in the text is not to be stored. */
static void secret_behind(struct walk *w, size_t from)
{
	struct sql_strings it = {.text = w->text, .at = from};

	w->g->flags |= SQL_F_LITERALS;
	if (from <= w->text.n && sql_strings_next(&it))
		gather_secret(w->g, it.off, it.n);
}

static void secret_options(struct walk *w, const List *options)
{
	const ListCell *cell;

	foreach (cell, options) {
		const DefElem *d = lfirst(cell);

		if (IsA(d, DefElem) && d->location >= 0 && string_of(d->arg) &&
		    (strcasestr(d->defname, "password") || strcasestr(d->defname, "secret")))
			secret_behind(w, (size_t)d->location);
	}
}

/* ------------------------------------------------------------------ tables */

/* Afterwards the columns have other parents, or are computed from no other any more. */
static bool moves_columns(AlterTableType type)
{
	return type == AT_AddInherit || type == AT_DropInherit || type == AT_AttachPartition ||
	       type == AT_DetachPartition || type == AT_DetachPartitionFinalize ||
	       type == AT_DropExpression;
}

static void visit_alter_table(struct walk *w, const struct item *it)
{
	const AlterTableStmt *s = (const AlterTableStmt *)it->node;
	const ListCell *cell;

	note_relation(w, it, SQL_DDL, s->relation);
	name_word(w, s->relation->relname, WORD_RANGE);
	foreach (cell, s->cmds) {
		const AlterTableCmd *c = lfirst(cell);

		if (moves_columns(c->subtype))
			w->g->flags |= SQL_F_CARRIES | SQL_F_STAR;
		if (c->subtype == AT_DropColumn)
			name_word(w, c->name, WORD_DROPPED);

		switch (c->subtype) {
		case AT_ChangeOwner:
		case AT_EnableRowSecurity:
		case AT_DisableRowSecurity:
		case AT_ForceRowSecurity:
		case AT_NoForceRowSecurity:
			note_relation(w, it, SQL_PRIVILEGE, s->relation);
			break;
		case AT_AddInherit:
		case AT_DropInherit:
			note_node(w, it, SQL_DDL, SQL_OBJ_RELATION, c->def);
			continue;
		case AT_AlterColumnType: /* USING computes the new values */
		case AT_AddColumn:	 /* DEFAULT, GENERATED */
			push(w, it, c->def, (it->ctx & ~(uint32_t)CTX_TOP) | CTX_CARRY);
			continue;
		case AT_ColumnDefault:
			push(w, it, c->def, (it->ctx & ~(uint32_t)CTX_TOP) | CTX_STORE);
			continue;
		default:
			break;
		}
		push(w, it, c, it->ctx);
	}
}

static void note_all(struct walk *w, const struct item *it, const List *relations)
{
	const ListCell *cell;

	foreach (cell, relations)
		note_node(w, it, SQL_DDL, SQL_OBJ_RELATION, lfirst(cell));
}

/* What it defines runs with later statements, or leads around the names of this database. */
static void visit_code(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CODE;
	push_kids(w, it, it->ctx);
}

/* The parents get another child, the referenced another trigger. */
static void visit_create(struct walk *w, const struct item *it)
{
	note_all(w, it, ((const CreateStmt *)it->node)->inhRelations);
	push_kids(w, it, it->ctx);
}

static void visit_partition(struct walk *w, const struct item *it)
{
	note_relation(w, it, SQL_DDL, ((const PartitionCmd *)it->node)->name);
	push_kids(w, it, it->ctx);
}

static void visit_like(struct walk *w, const struct item *it)
{
	note_relation(w, it, SQL_READ, ((const TableLikeClause *)it->node)->relation);
}

static void visit_foreign_table(struct walk *w, const struct item *it)
{
	const CreateForeignTableStmt *s = (const CreateForeignTableStmt *)it->node;
	const ListCell *cell;

	foreach (cell, s->options) {
		const DefElem *d = lfirst(cell);
		const char *text = string_of(d->arg);

		/* file_fdw */
		if (strcmp(d->defname, "filename") == 0)
			note(w, it, SQL_FILE, SQL_OBJ_OTHER, NULL, text);
		else if (strcmp(d->defname, "program") == 0)
			note(w, it, SQL_PROGRAM, SQL_OBJ_OTHER, NULL, text);
		else
			continue;
		w->g->flags |= SQL_F_LITERALS;
	}
	secret_options(w, s->options);
	note_all(w, it, s->base.inhRelations);
	visit_code(w, it);
}

static void visit_constraint(struct walk *w, const struct item *it)
{
	const Constraint *c = (const Constraint *)it->node;
	const ListCell *cell;

	note_relation(w, it, SQL_DDL, c->pktable);
	foreach (cell, c->exclusions) {
		/* a pair: IndexElem and the operator's name */
		const List *pair = lfirst(cell);

		push(w, it, linitial(pair), it->ctx);
		operator_used(w, it, lsecond(pair));
	}
	push_kids(w, it,
		  c->contype == CONSTR_GENERATED ? it->ctx | CTX_CARRY
		  : c->contype == CONSTR_DEFAULT ? it->ctx | CTX_STORE
						 : it->ctx);
}

/* The catalog shows what a bound came to. */
static void visit_bound(struct walk *w, const struct item *it)
{
	push_kids(w, it, it->ctx | CTX_CARRY);
}

/* What is read through it later has no mask of its own before it is known. */
static void visit_view(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CARRIES;
	push_kids(w, it, it->ctx);
}

static void visit_rule(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CODE;
	visit_view(w, it);
}

static void visit_trigger(struct walk *w, const struct item *it)
{
	name_word(w, name_part(((const CreateTrigStmt *)it->node)->funcname, 0), WORD_NAME);
	visit_code(w, it);
}

static void visit_publication(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CARRIES | SQL_F_STAR;
	visit_code(w, it);
}

static void visit_publication_table(struct walk *w, const struct item *it)
{
	const PublicationTable *t = (const PublicationTable *)it->node;

	note_relation(w, it, SQL_READ, t->relation);
	push_kids(w, it, it->ctx);
}

/* -------------------------------------------------------------- functions */

static void visit_create_function(struct walk *w, const struct item *it)
{
	const CreateFunctionStmt *s = (const CreateFunctionStmt *)it->node;
	const char *language = "sql";
	const ListCell *cell;

	w->g->flags |= SQL_F_LITERALS | SQL_F_CARRIES;
	foreach (cell, s->options) {
		const DefElem *d = lfirst(cell);

		if (strcmp(d->defname, "language") == 0 && string_of(d->arg))
			language = strVal(d->arg);
		if (strcmp(d->defname, "security") == 0)
			note_effects(w, it, SQL_PRIVILEGE);
	}
	/* Any other language may leave the database. */
	if (strcmp(language, "sql") != 0 && strcmp(language, "plpgsql") != 0)
		note_effects(w, it, SQL_PROGRAM);
	visit_code(w, it);
}

static void visit_alter_function(struct walk *w, const struct item *it)
{
	const AlterFunctionStmt *s = (const AlterFunctionStmt *)it->node;
	const ListCell *cell;

	w->g->flags |= SQL_F_CODE;
	foreach (cell, s->actions)
		if (strcmp(((const DefElem *)lfirst(cell))->defname, "security") == 0)
			note_effects(w, it, SQL_PRIVILEGE);
}

static void visit_define(struct walk *w, const struct item *it)
{
	const DefineStmt *s = (const DefineStmt *)it->node;

	if (s->kind == OBJECT_AGGREGATE || s->kind == OBJECT_OPERATOR || s->kind == OBJECT_TYPE)
		w->g->flags |= SQL_F_CODE;
	push_kids(w, it, it->ctx);
}

static void visit_create_domain(struct walk *w, const struct item *it)
{
	if (((const CreateDomainStmt *)it->node)->constraints)
		w->g->flags |= SQL_F_CODE;
	push_kids(w, it, it->ctx);
}

static void visit_alter_domain(struct walk *w, const struct item *it)
{
	const AlterDomainStmt *s = (const AlterDomainStmt *)it->node;

	/* ADD and VALIDATE evaluate the constraint for every value that is there. */
	if (s->subtype == 'C' || s->subtype == 'V')
		w->g->flags |= SQL_F_CODE;
	push_kids(w, it, s->subtype == 'T' ? it->ctx | CTX_STORE : it->ctx);
}

/* SET inside of CREATE or ALTER FUNCTION is not of this session. */
static void visit_option(struct walk *w, const struct item *it)
{
	const DefElem *d = (const DefElem *)it->node;

	if (d->arg && !IsA(d->arg, VariableSetStmt))
		push(w, it, d->arg, it->ctx);
}

/* ---------------------------------------------------------- several objects */

static void visit_drop(struct walk *w, const struct item *it)
{
	const DropStmt *s = (const DropStmt *)it->node;
	const ListCell *cell;

	foreach (cell, s->objects)
		note_object(w, it, SQL_DDL, s->removeType, lfirst(cell));
}

static void visit_comment(struct walk *w, const struct item *it)
{
	const CommentStmt *s = (const CommentStmt *)it->node;

	note_object(w, it, SQL_DDL, s->objtype, s->object);
}

static void visit_label(struct walk *w, const struct item *it)
{
	const SecLabelStmt *s = (const SecLabelStmt *)it->node;

	note_object(w, it, SQL_PRIVILEGE, s->objtype, s->object);
}

static void relation_or_object(struct walk *w, const struct item *it, uint32_t effects,
			       const RangeVar *relation, ObjectType type, const Node *object,
			       const char *name)
{
	if (relation)
		note_relation(w, it, effects, relation);
	else if (object)
		note_object(w, it, effects, type, object);
	else if (name)
		note(w, it, effects, kind_of(type), NULL, name);
}

/* @type gets another name or schema; masks and what is known of functions go by those. */
static void moved_name(struct walk *w, ObjectType type, bool relation, const char *column)
{
	switch (type) {
	case OBJECT_COLUMN:
	case OBJECT_ATTRIBUTE:
		w->g->flags |= SQL_F_CARRIES;
		name_word(w, column, WORD_NAME);
		break;
	case OBJECT_TABCONSTRAINT:
	case OBJECT_TRIGGER:
	case OBJECT_RULE:
	case OBJECT_POLICY:
		break;
	case OBJECT_SCHEMA:
	case OBJECT_FUNCTION:
	case OBJECT_PROCEDURE:
	case OBJECT_ROUTINE:
	case OBJECT_AGGREGATE:
	case OBJECT_OPERATOR:
		w->g->flags |= SQL_F_CODE;
		break;
	default: /* ALTER INDEX renames tables, too */
		if (relation)
			w->g->flags |= SQL_F_CARRIES | SQL_F_STAR;
		break;
	}
}

static void visit_rename(struct walk *w, const struct item *it)
{
	const RenameStmt *s = (const RenameStmt *)it->node;
	uint32_t effects = s->renameType == OBJECT_ROLE ? SQL_PRIVILEGE : SQL_DDL;

	note_effects(w, it, effects);
	moved_name(w, s->renameType, s->relation != NULL, s->subname);
	relation_or_object(w, it, effects, s->relation, s->renameType, s->object, s->subname);
}

static void visit_depends(struct walk *w, const struct item *it)
{
	const AlterObjectDependsStmt *s = (const AlterObjectDependsStmt *)it->node;

	relation_or_object(w, it, SQL_DDL, s->relation, s->objectType, s->object, NULL);
}

static void visit_schema(struct walk *w, const struct item *it)
{
	const AlterObjectSchemaStmt *s = (const AlterObjectSchemaStmt *)it->node;

	moved_name(w, s->objectType, s->relation != NULL, NULL);
	relation_or_object(w, it, SQL_DDL, s->relation, s->objectType, s->object, NULL);
}

static void visit_owner(struct walk *w, const struct item *it)
{
	const AlterOwnerStmt *s = (const AlterOwnerStmt *)it->node;

	relation_or_object(w, it, SQL_DDL | SQL_PRIVILEGE, s->relation, s->objectType, s->object,
			   NULL);
}

/* ------------------------------------------------------------------ rights */

static void visit_grant(struct walk *w, const struct item *it)
{
	const GrantStmt *s = (const GrantStmt *)it->node;
	enum sql_object_kind kind =
		s->targtype == ACL_TARGET_OBJECT ? kind_of(s->objtype) : SQL_OBJ_OTHER;
	const ListCell *cell;

	foreach (cell, s->objects)
		note_node(w, it, SQL_PRIVILEGE, kind, lfirst(cell));
}

static void visit_create_role(struct walk *w, const struct item *it)
{
	secret_options(w, ((const CreateRoleStmt *)it->node)->options);
}

static void visit_alter_role(struct walk *w, const struct item *it)
{
	secret_options(w, ((const AlterRoleStmt *)it->node)->options);
}

static void visit_alter_system(struct walk *w, const struct item *it)
{
	const AlterSystemStmt *s = (const AlterSystemStmt *)it->node;

	note(w, it, SQL_PRIVILEGE | SQL_FILE, SQL_OBJ_OTHER, NULL, s->setstmt->name);
	/* primary_conninfo, ssl_passphrase_command and their like */
	if (s->setstmt->name && s->setstmt->args)
		secret_behind(w, w->statement_at);
}

static void visit_options(struct walk *w, const struct item *it)
{
	const void *node = it->node;

	w->g->flags |= SQL_F_CODE;
	switch (nodeTag(node)) {
	case T_CreateUserMappingStmt:
		secret_options(w, ((const CreateUserMappingStmt *)node)->options);
		break;
	case T_AlterUserMappingStmt:
		secret_options(w, ((const AlterUserMappingStmt *)node)->options);
		break;
	case T_CreateForeignServerStmt:
		secret_options(w, ((const CreateForeignServerStmt *)node)->options);
		break;
	case T_AlterForeignServerStmt:
		secret_options(w, ((const AlterForeignServerStmt *)node)->options);
		break;
	case T_CreateFdwStmt:
		secret_options(w, ((const CreateFdwStmt *)node)->options);
		break;
	case T_AlterFdwStmt:
		secret_options(w, ((const AlterFdwStmt *)node)->options);
		break;
	default:
		break;
	}
	push_kids(w, it, it->ctx);
}

/* The connection string is the first constant of these. */
static void visit_create_subscription(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CODE;
	secret_behind(w, w->statement_at);
}

static void visit_alter_subscription(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_CODE;
	if (((const AlterSubscriptionStmt *)it->node)->conninfo)
		secret_behind(w, w->statement_at);
}

const struct visitor tree_ddl_visitors[] = {
	{T_Constraint, visit_constraint},
	{T_DefElem, visit_option},
	{T_PartitionBoundSpec, visit_bound},
	{T_PartitionCmd, visit_partition},
	{T_PublicationTable, visit_publication_table},
	{T_TableLikeClause, visit_like},
};
const uint32_t tree_nddl_visitors = sizeof(tree_ddl_visitors) / sizeof(tree_ddl_visitors[0]);

const struct statement tree_definitions[] = {
	/* relations */
	ROW_OV(CreateStmt, SQL_DDL, NODE, RELATION, relation, visit_create),
	ROW_OV(CreateForeignTableStmt, SQL_DDL, NODE, RELATION, base.relation, visit_foreign_table),
	ROW_V(AlterTableStmt, SQL_DDL, visit_alter_table),
	ROW_O(IndexStmt, SQL_DDL, NODE, RELATION, relation),
	ROW_OV(ViewStmt, SQL_DDL, NODE, RELATION, view, visit_view),
	ROW_OV(RuleStmt, SQL_DDL, NODE, RELATION, relation, visit_rule),
	ROW_OV(CreateTrigStmt, SQL_DDL, NODE, RELATION, relation, visit_trigger),
	ROW_O(CreateSeqStmt, SQL_DDL, NODE, RELATION, sequence),
	ROW_O(AlterSeqStmt, SQL_DDL, NODE, RELATION, sequence),
	ROW_O(CreateStatsStmt, SQL_DDL, EACH, RELATION, relations),
	ROW_O(AlterStatsStmt, SQL_DDL, NODE, OTHER, defnames),
	ROW_OV(CreatePolicyStmt, SQL_DDL | SQL_PRIVILEGE, NODE, RELATION, table, visit_code),
	ROW_OV(AlterPolicyStmt, SQL_DDL | SQL_PRIVILEGE, NODE, RELATION, table, visit_code),
	ROW_O(AlterTableMoveAllStmt, SQL_DDL, CSTRING, OTHER, orig_tablespacename),
	ROW_OV(CreatePublicationStmt, SQL_DDL, CSTRING, OTHER, pubname, visit_publication),
	ROW_OV(AlterPublicationStmt, SQL_DDL, CSTRING, OTHER, pubname, visit_publication),
	ROW_OV(CreateSubscriptionStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, subname,
	       visit_create_subscription),
	ROW_OV(AlterSubscriptionStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, subname,
	       visit_alter_subscription),
	ROW_O(DropSubscriptionStmt, SQL_DDL, CSTRING, OTHER, subname),
	ROW_OV(ImportForeignSchemaStmt, SQL_DDL, CSTRING, OTHER, local_schema, visit_code),

	/* functions, types, operators */
	ROW_OV(CreateFunctionStmt, SQL_DDL, NODE, FUNCTION, funcname, visit_create_function),
	ROW_OV(AlterFunctionStmt, SQL_DDL, NODE, FUNCTION, func, visit_alter_function),
	ROW_OV(DefineStmt, SQL_DDL, NODE, OTHER, defnames, visit_define),
	ROW_OV(CreateDomainStmt, SQL_DDL, NODE, OTHER, domainname, visit_create_domain),
	ROW_OV(AlterDomainStmt, SQL_DDL, NODE, OTHER, typeName, visit_alter_domain),
	ROW_O(CompositeTypeStmt, SQL_DDL, NODE, OTHER, typevar),
	ROW_O(CreateEnumStmt, SQL_DDL, NODE, OTHER, typeName),
	ROW_O(AlterEnumStmt, SQL_DDL, NODE, OTHER, typeName),
	ROW_OV(CreateRangeStmt, SQL_DDL, NODE, OTHER, typeName, visit_code),
	ROW_OV(AlterTypeStmt, SQL_DDL, NODE, OTHER, typeName, visit_code),
	ROW_O(AlterCollationStmt, SQL_DDL, NODE, OTHER, collname),
	ROW_OV(AlterOperatorStmt, SQL_DDL, NODE, FUNCTION, opername, visit_code),
	ROW_OV(CreateConversionStmt, SQL_DDL, NODE, OTHER, conversion_name, visit_code),
	ROW_OV(CreateCastStmt, SQL_DDL, NODE, OTHER, targettype, visit_code),
	ROW_OV(CreateTransformStmt, SQL_DDL, NODE, OTHER, type_name, visit_code),
	ROW_OV(CreateOpClassStmt, SQL_DDL, NODE, OTHER, opclassname, visit_code),
	ROW_O(CreateOpFamilyStmt, SQL_DDL, NODE, OTHER, opfamilyname),
	ROW_OV(AlterOpFamilyStmt, SQL_DDL, NODE, OTHER, opfamilyname, visit_code),
	ROW_O(AlterTSDictionaryStmt, SQL_DDL, NODE, OTHER, dictname),
	ROW_O(AlterTSConfigurationStmt, SQL_DDL, NODE, OTHER, cfgname),
	ROW_OV(CreateAmStmt, SQL_DDL, CSTRING, OTHER, amname, visit_code),
	ROW_OV(CreatePLangStmt, SQL_DDL | SQL_PROGRAM, CSTRING, OTHER, plname, visit_code),
	ROW_OV(CreateExtensionStmt, SQL_DDL | SQL_PROGRAM, CSTRING, OTHER, extname, visit_code),
	ROW_OV(AlterExtensionStmt, SQL_DDL | SQL_PROGRAM, CSTRING, OTHER, extname, visit_code),
	ROW_O(AlterExtensionContentsStmt, SQL_DDL, CSTRING, OTHER, extname),
	ROW_OV(CreateEventTrigStmt, SQL_DDL, CSTRING, OTHER, trigname, visit_code),
	ROW_OV(AlterEventTrigStmt, SQL_DDL, CSTRING, OTHER, trigname, visit_code),

	/* of any kind */
	ROW_V(DropStmt, SQL_DDL, visit_drop),
	ROW_V(CommentStmt, SQL_DDL, visit_comment),
	ROW_V(RenameStmt, 0, visit_rename),
	ROW_V(AlterObjectDependsStmt, SQL_DDL, visit_depends),
	ROW_V(AlterObjectSchemaStmt, SQL_DDL, visit_schema),
	ROW_V(AlterOwnerStmt, SQL_DDL | SQL_PRIVILEGE, visit_owner),

	/* databases and the server */
	ROW_O(CreateSchemaStmt, SQL_DDL, CSTRING, OTHER, schemaname),
	ROW_O(CreatedbStmt, SQL_DDL, CSTRING, OTHER, dbname),
	ROW_O(AlterDatabaseStmt, SQL_DDL, CSTRING, OTHER, dbname),
	ROW_O(AlterDatabaseRefreshCollStmt, SQL_DDL, CSTRING, OTHER, dbname),
	ROW_O(AlterDatabaseSetStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, dbname),
	ROW_O(DropdbStmt, SQL_DDL, CSTRING, OTHER, dbname),
	ROW_O(CreateTableSpaceStmt, SQL_DDL | SQL_FILE, CSTRING, OTHER, tablespacename),
	ROW_O(DropTableSpaceStmt, SQL_DDL | SQL_FILE, CSTRING, OTHER, tablespacename),
	ROW_O(AlterTableSpaceOptionsStmt, SQL_DDL, CSTRING, OTHER, tablespacename),
	ROW_OV(CreateFdwStmt, SQL_DDL | SQL_PROGRAM, CSTRING, OTHER, fdwname, visit_options),
	ROW_OV(AlterFdwStmt, SQL_DDL | SQL_PROGRAM, CSTRING, OTHER, fdwname, visit_options),
	ROW_OV(CreateForeignServerStmt, SQL_DDL, CSTRING, OTHER, servername, visit_options),
	ROW_OV(AlterForeignServerStmt, SQL_DDL, CSTRING, OTHER, servername, visit_options),

	/* rights */
	ROW_OV(CreateUserMappingStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, servername,
	       visit_options),
	ROW_OV(AlterUserMappingStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, servername,
	       visit_options),
	ROW_O(DropUserMappingStmt, SQL_DDL | SQL_PRIVILEGE, CSTRING, OTHER, servername),
	ROW_V(GrantStmt, SQL_PRIVILEGE, visit_grant),
	ROW_O(GrantRoleStmt, SQL_PRIVILEGE, EACH, OTHER, granted_roles),
	ROW(AlterDefaultPrivilegesStmt, SQL_PRIVILEGE),
	ROW_OV(CreateRoleStmt, SQL_PRIVILEGE, CSTRING, OTHER, role, visit_create_role),
	ROW_OV(AlterRoleStmt, SQL_PRIVILEGE, NODE, OTHER, role, visit_alter_role),
	ROW_O(AlterRoleSetStmt, SQL_PRIVILEGE, NODE, OTHER, role),
	ROW_O(DropRoleStmt, SQL_PRIVILEGE, EACH, OTHER, roles),
	ROW_O(DropOwnedStmt, SQL_DDL | SQL_PRIVILEGE, EACH, OTHER, roles),
	ROW_O(ReassignOwnedStmt, SQL_DDL | SQL_PRIVILEGE, EACH, OTHER, roles),
	ROW_V(SecLabelStmt, SQL_PRIVILEGE, visit_label),
	ROW_V(AlterSystemStmt, SQL_PRIVILEGE | SQL_FILE, visit_alter_system),
};
const uint32_t tree_ndefinitions = sizeof(tree_definitions) / sizeof(tree_definitions[0]);
