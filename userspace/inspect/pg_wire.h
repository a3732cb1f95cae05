/* SPDX-License-Identifier: MIT */
/*
 * Constants of the PostgreSQL frontend/backend protocol 3.0, named as in its
 * documentation ("Message Formats"), and the limits of this inspector.
 */
#ifndef TIDEGATE_INSPECT_PG_WIRE_H
#define TIDEGATE_INSPECT_PG_WIRE_H

enum pg_frontend {
	PG_F_BIND = 'B',
	PG_F_CLOSE = 'C',
	PG_F_COPY_DATA = 'd',
	PG_F_COPY_DONE = 'c',
	PG_F_COPY_FAIL = 'f',
	PG_F_DESCRIBE = 'D',
	PG_F_EXECUTE = 'E',
	PG_F_FLUSH = 'H',
	PG_F_FUNCTION_CALL = 'F',
	PG_F_PARSE = 'P',
	PG_F_PASSWORD = 'p', /* and SASL, GSS responses */
	PG_F_QUERY = 'Q',
	PG_F_SYNC = 'S',
	PG_F_TERMINATE = 'X',
};

enum pg_backend {
	PG_B_AUTHENTICATION = 'R',
	PG_B_BACKEND_KEY_DATA = 'K',
	PG_B_BIND_COMPLETE = '2',
	PG_B_CLOSE_COMPLETE = '3',
	PG_B_COMMAND_COMPLETE = 'C',
	PG_B_COPY_DATA = 'd',
	PG_B_COPY_DONE = 'c',
	PG_B_COPY_IN_RESPONSE = 'G',
	PG_B_COPY_OUT_RESPONSE = 'H',
	PG_B_COPY_BOTH_RESPONSE = 'W',
	PG_B_DATA_ROW = 'D',
	PG_B_EMPTY_QUERY_RESPONSE = 'I',
	PG_B_ERROR_RESPONSE = 'E',
	PG_B_FUNCTION_CALL_RESPONSE = 'V',
	PG_B_NEGOTIATE_PROTOCOL_VERSION = 'v',
	PG_B_NO_DATA = 'n',
	PG_B_NOTICE_RESPONSE = 'N',
	PG_B_NOTIFICATION_RESPONSE = 'A',
	PG_B_PARAMETER_DESCRIPTION = 't',
	PG_B_PARAMETER_STATUS = 'S',
	PG_B_PARSE_COMPLETE = '1',
	PG_B_PORTAL_SUSPENDED = 's',
	PG_B_READY_FOR_QUERY = 'Z',
	PG_B_ROW_DESCRIPTION = 'T',
};

/* First message of a connection: the code in place of a type. */
enum pg_start_code {
	PG_VERSION_3_0 = 3 << 16,
	PG_CANCEL_REQUEST = 80877102,
	PG_SSL_REQUEST = 80877103,
	PG_GSSENC_REQUEST = 80877104,
};

enum pg_auth {
	PG_AUTH_OK = 0,
	PG_AUTH_CLEARTEXT = 3,
	PG_AUTH_MD5 = 5,
	PG_AUTH_GSS = 7,
	PG_AUTH_GSS_CONTINUE = 8,
	PG_AUTH_SSPI = 9,
	PG_AUTH_SASL = 10,
	PG_AUTH_SASL_CONTINUE = 11,
	PG_AUTH_SASL_FINAL = 12,
};

/* Transaction status in ReadyForQuery. */
enum pg_status {
	PG_STATUS_IDLE = 'I',
	PG_STATUS_BLOCK = 'T',
	PG_STATUS_FAILED = 'E',
};

enum {
	PG_HEAD = 5,		    /* type and length */
	PG_STARTUP_MAX = 10000,	    /* MAX_STARTUP_PACKET_LENGTH */
	PG_AUTH_MAX = 65535,	    /* PG_MAX_AUTH_TOKEN_LENGTH */
	PG_NAME_MAX = 63,	    /* NAMEDATALEN - 1 */
	PG_SMALL_MAX = 10000,	    /* PQ_SMALL_MESSAGE_LIMIT */
	PG_LARGE_MAX = 0x3ffffffe,  /* PQ_LARGE_MESSAGE_LIMIT */
	PG_TEXT_MAX = 65536,	    /* an error or notice that is read without masks; then it streams */
	PG_COLUMNS_MAX = 1664,	    /* MaxTupleAttributeNumber */
	PG_REPLIES_MAX = 16384,	    /* messages in flight */
	PG_OBJECTS_MAX = 4096,	    /* prepared statements and portals */
	PG_OBJECTS_BYTES = 8 << 20, /* their texts, names, descriptions */
};

/* Type OIDs (pg_type.dat) that the masks treat by type. */
enum pg_oid {
	PG_OID_BOOL = 16,
	PG_OID_BYTEA = 17,
	PG_OID_CHAR = 18,
	PG_OID_NAME = 19,
	PG_OID_INT8 = 20,
	PG_OID_INT2 = 21,
	PG_OID_INT4 = 23,
	PG_OID_TEXT = 25,
	PG_OID_OID = 26,
	PG_OID_JSON = 114,
	PG_OID_XML = 142,
	PG_OID_XML_ARRAY = 143,
	PG_OID_JSON_ARRAY = 199,
	PG_OID_CIDR = 650,
	PG_OID_FLOAT4 = 700,
	PG_OID_FLOAT8 = 701,
	PG_OID_UNKNOWN = 705,
	PG_OID_MACADDR = 829,
	PG_OID_INET = 869,
	PG_OID_MACADDR8 = 774,
	PG_OID_MONEY = 790,
	PG_OID_CHAR_ARRAY = 1002,
	PG_OID_NAME_ARRAY = 1003,
	PG_OID_TEXT_ARRAY = 1009,
	PG_OID_BPCHAR_ARRAY = 1014,
	PG_OID_VARCHAR_ARRAY = 1015,
	PG_OID_BPCHAR = 1042,
	PG_OID_VARCHAR = 1043,
	PG_OID_DATE = 1082,
	PG_OID_TIME = 1083,
	PG_OID_TIMESTAMP = 1114,
	PG_OID_TIMESTAMPTZ = 1184,
	PG_OID_INTERVAL = 1186,
	PG_OID_TIMETZ = 1266,
	PG_OID_NUMERIC = 1700,
	PG_OID_UUID = 2950,
	PG_OID_JSONB = 3802,
	PG_OID_JSONB_ARRAY = 3807,
	PG_OID_FIRST_USER = 16384,
};

#endif
