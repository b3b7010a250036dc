// The session protocol's numbers; docs/session-protocol.md says what they mean.
#pragma once

#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    INIT_VERSION = 0x000100, // major, minor, patch: one byte each

    SECRET_SIZE = 32,
    KEY_SIZE = 16,
    HELLO_SIZE = 40,
    WELCOME_SIZE = 16,
    HEADER_SIZE = 16,

    MAX_DATA = 65536,         // payload of a DATA frame
    MAX_REQUEST = 256 * 1024, // payload of an OPEN frame
    MAX_SMALL = 256,          // payload of every other frame from a client
};

enum frame_type {
    FRAME_OPEN = 0x01,
    FRAME_ATTACH = 0x02,
    FRAME_LIST = 0x03,
    FRAME_STATUS = 0x04,
    FRAME_LOGS = 0x05,
    FRAME_QUIESCE = 0x06,
    FRAME_BYE = 0x07,

    FRAME_DATA = 0x10,
    FRAME_END = 0x11,
    FRAME_ACK = 0x12,
    FRAME_CLOSE = 0x13,

    FRAME_RESIZE = 0x20,
    FRAME_SIGNAL = 0x21,
    FRAME_SIGNAL_ACK = 0x22,
    FRAME_DETACH = 0x23,
    FRAME_EXIT_ACK = 0x24,

    FRAME_OPENED = 0x40,
    FRAME_EXITED = 0x41,
    FRAME_TAKEN = 0x42,
    FRAME_REFUSED = 0x43,
    FRAME_SESSION = 0x44,
    FRAME_LIST_END = 0x45,
    FRAME_STATUS_REPLY = 0x46,
    FRAME_LOG_DATA = 0x47,
    FRAME_LOG_END = 0x48,
    FRAME_QUIESCED = 0x49,
};

enum stream {
    STREAM_INPUT = 0,
    STREAM_OUTPUT = 1,
    STREAM_ERROR = 2,
};

enum session_mode {
    MODE_PIPES = 1,
    MODE_TERMINAL = 2,
};

enum exit_how {
    EXIT_STATUS = 1,      // code: the exit status
    EXIT_SIGNAL = 2,      // code: the signal
    EXIT_NOT_STARTED = 3, // code: errno, stage says of what
};

enum refusal {
    REFUSED_PROTOCOL = 1,
    REFUSED_NO_SESSION = 2,
    REFUSED_TAKEN = 3,
    REFUSED_TOO_MANY = 4,
    REFUSED_RESOURCES = 5,
    REFUSED_ABANDONED = 6,
    REFUSED_NOT_TERMINAL = 7,
    REFUSED_STOPPING = 8,
};

// A frame's header, decoded.
struct frame {
    uint32_t length;
    uint8_t type;
    uint8_t stream;
    uint64_t value;
};
