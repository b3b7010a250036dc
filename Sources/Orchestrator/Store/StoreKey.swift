/// A key as the store orders it: by bytes, as SQLite and etcd do, not by Swift's rules for equal text.
package struct StoreKey: Sendable, Hashable, Comparable {
    package let bytes: [UInt8]

    /// Longest key, bytes.
    package static let maximumLength = 512
    /// Longest value, bytes.
    package static let maximumValue = 1 << 20

    /// Checks a key that is to be written or read.
    package init(_ key: String) throws(StoreError) {
        let bytes = Array(key.utf8)
        guard !bytes.isEmpty, bytes.count <= Self.maximumLength, Self.isPrintable(bytes) else {
            throw StoreError.invalid(
                cause: "'\(Self.shown(bytes))' is not a key of the store",
                remedy: "use 1 to \(Self.maximumLength) bytes of UTF-8 without control characters"
            )
        }
        self.bytes = bytes
    }

    /// Checks a prefix; the empty one is everything.
    package init(prefix: String) throws(StoreError) {
        let bytes = Array(prefix.utf8)
        guard bytes.count <= Self.maximumLength, Self.isPrintable(bytes) else {
            throw StoreError.invalid(
                cause: "'\(Self.shown(bytes))' is not a prefix of the store's keys",
                remedy: "use at most \(Self.maximumLength) bytes of UTF-8 without control characters"
            )
        }
        self.bytes = bytes
    }

    /// Takes over bytes that a store has checked before.
    package init(trusted bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The key as text.
    package var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The first key after all that begin with this prefix; nil for the empty prefix, which has no end.
    package var end: StoreKey? {
        // No byte of UTF-8 is 0xff, so the last one can always be raised.
        guard let last = bytes.last else { return nil }
        return StoreKey(trusted: bytes.dropLast() + [last + 1])
    }

    /// Whether the key begins with a prefix.
    package func begins(with prefix: StoreKey) -> Bool {
        bytes.starts(with: prefix.bytes)
    }

    /// Orders by bytes.
    package static func < (left: StoreKey, right: StoreKey) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    /// Refuses values that are too long.
    package static func check(value: [UInt8]) throws(StoreError) {
        guard value.count <= maximumValue else {
            throw StoreError.invalid(
                cause: "a value of \(value.count) bytes is too long for the store",
                remedy: "store at most \(maximumValue) bytes under one key"
            )
        }
    }

    private static func isPrintable(_ bytes: [UInt8]) -> Bool {
        bytes.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }

    /// The beginning of a refused key, safe to print.
    private static func shown(_ bytes: [UInt8]) -> String {
        let head = bytes.prefix(64).map { $0 >= 0x20 && $0 < 0x7f ? $0 : UInt8(ascii: "?") }
        return String(decoding: head, as: UTF8.self) + (bytes.count > 64 ? "…" : "")
    }
}
