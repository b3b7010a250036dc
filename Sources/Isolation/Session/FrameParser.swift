/// Cuts what a connection brings into frames; data is passed on as it comes, without waiting for the whole frame.
struct FrameParser {
    /// What was found.
    enum Piece {
        /// Part of a DATA or LOG_DATA frame. SAFETY: the bytes are valid during the call only.
        case data(FrameHeader, offset: UInt64, UnsafeRawBufferPointer)
        /// Any other frame, whole.
        case frame(FrameHeader, [UInt8])
        /// Not a frame: nothing after it can be trusted.
        case breach
    }

    private static let maxSmall = 64 << 10
    private var head: [UInt8] = []
    private var current: FrameHeader?
    private var payload: [UInt8] = []
    private var taken = 0

    /// Takes the next bytes; `handle` returns false to stop.
    mutating func feed(_ bytes: UnsafeRawBufferPointer, _ handle: (Piece) -> Bool) {
        var rest = bytes[...]
        while true {
            if let header = current {
                guard takePayload(header, &rest, handle) else { return }
            } else {
                guard takeHeader(&rest, handle) else { return }
            }
        }
    }

    private mutating func takeHeader(
        _ rest: inout Slice<UnsafeRawBufferPointer>,
        _ handle: (Piece) -> Bool
    ) -> Bool {
        let piece = rest.prefix(FrameHeader.size - head.count)
        head.append(contentsOf: piece)
        rest = rest.dropFirst(piece.count)
        guard head.count == FrameHeader.size else { return false }
        let header = head.withUnsafeBytes { FrameHeader(decoding: $0) }
        head.removeAll(keepingCapacity: true)
        guard header.length <= Self.maxSmall else {
            _ = handle(.breach)
            return false
        }
        current = header
        taken = 0
        payload.removeAll(keepingCapacity: true)
        return header.length == 0 ? finish(header, handle) : true
    }

    private mutating func takePayload(
        _ header: FrameHeader,
        _ rest: inout Slice<UnsafeRawBufferPointer>,
        _ handle: (Piece) -> Bool
    ) -> Bool {
        guard !rest.isEmpty else { return false }
        let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(header.length - taken))
        rest = rest.dropFirst(piece.count)
        let before = taken
        taken += piece.count
        if header.kind == .data || header.kind == .logData {
            if taken == header.length { current = nil }
            return handle(.data(header, offset: header.value + UInt64(before), piece))
        }
        payload.append(contentsOf: piece)
        return taken == header.length ? finish(header, handle) : true
    }

    private mutating func finish(_ header: FrameHeader, _ handle: (Piece) -> Bool) -> Bool {
        current = nil
        return handle(.frame(header, payload))
    }
}

extension SessionEvent {
    /// The event that a frame of smi-init is; `.breach` where it is none.
    init(_ header: FrameHeader, _ payload: [UInt8]) {
        var reader = ByteReader(payload)
        switch header.kind {
        case .opened:
            self = SessionOpened(session: header.value, payload: payload).map { .opened($0) } ?? .breach
        case .end:
            self = SessionStream(rawValue: header.stream).map { .ended($0, offset: header.value) } ?? .breach
        case .acknowledge:
            self =
                reader.integer(UInt64.self).map { .inputAcknowledged(offset: header.value, limit: $0) } ?? .breach
        case .signalAcknowledge: self = .signalAcknowledged(header.value)
        case .exited: self = SessionExit(payload: payload).map { .exited($0) } ?? .breach
        case .taken: self = .taken
        case .refused:
            self = .refused(SessionRefusal(rawValue: header.value), message: String(decoding: payload, as: UTF8.self))
        default: self = .breach
        }
    }
}
