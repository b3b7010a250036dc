import Glibc

/// Elements of nftables sets, changed as one transaction without starting `nft`.
package struct PacketFilterBatch: Sendable {
    /// The table, of family `inet`.
    package let table: String
    private(set) var messages: [NetlinkMessage] = []

    /// An empty batch for a table.
    package init(table: String) {
        self.table = table
    }

    /// Adds an element; one that is there already is no error.
    package mutating func add(_ key: [UInt8], to set: String) {
        messages.append(element(12, set, key, flags: NetlinkMessage.create))
    }

    /// Removes an element; one that is not there is no error (NFT_MSG_DESTROYSETELEM, Linux 6.3).
    package mutating func remove(_ key: [UInt8], from set: String) {
        messages.append(element(30, set, key, flags: 0))
    }

    /// Carries out all changes, or none.
    package func commit(over socket: NetlinkSocket) throws(SyscallError) {
        let entries =
            [(Self.mark(0x10), UInt16(0))] + messages.map { ($0, NetlinkMessage.ack) } + [(Self.mark(0x11), UInt16(0))]
        let replies = try socket.exchange(entries)
        for reply in replies {
            guard let code = reply.acknowledgement, code != 0 else { continue }
            throw SyscallError("nftables", code: code, subject: "inet \(table)")
        }
    }

    /// Whether a set has an element, now: a change counts as soon as it is in force.
    ///
    /// `commit` returns milliseconds later, once no processor can be in the middle of the rules as they were.
    package static func has(
        _ key: [UInt8],
        in set: String,
        of table: String,
        over socket: NetlinkSocket
    ) throws(SyscallError) -> Bool {
        do {
            return try !socket.query(
                PacketFilterBatch(table: table).element(13, set, key, flags: 0),
                subject: "inet \(table)"
            ).isEmpty
        } catch {
            if error.code == ENOENT { return false }
            throw error
        }
    }

    /// The key of an interface's name (type `ifname`): 16 bytes.
    package static func key(interface name: String) -> [UInt8] {
        let bytes = Array(name.utf8.prefix(15))
        return bytes + [UInt8](repeating: 0, count: 16 - bytes.count)
    }

    private func element(_ type: UInt16, _ set: String, _ key: [UInt8], flags: UInt16) -> NetlinkMessage {
        // NFPROTO_INET, version 0, no resource; NFNL_SUBSYS_NFTABLES is 10.
        var message = NetlinkMessage(type: 10 << 8 | type, flags: flags, fixed: [1, 0, 0, 0])
        message.attribute(1, string: table)
        message.attribute(2, string: set)
        message.nest(3) { list in
            list.nest(1) { element in
                element.nest(1) { $0.attribute(1, key) }
            }
        }
        return message
    }

    /// NFNL_MSG_BATCH_BEGIN or _END for nftables; the resource is in network byte order.
    private static func mark(_ type: UInt16) -> NetlinkMessage {
        NetlinkMessage(type: type, flags: 0, fixed: [0, 0, 0, 10])
    }
}
