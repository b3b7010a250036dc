import CLinux
import Glibc

/// A netlink socket.
///
/// The kernel answers requests within send(2), so nothing here waits.
package final class NetlinkSocket: Sendable {
    /// The protocols used here.
    package enum Family: Int32, Sendable {
        case route = 0
        case netfilter = 12
    }

    private let descriptor: Descriptor

    /// Opens a socket in the caller's network namespace.
    package init(_ family: Family) throws(SyscallError) {
        let raw = try syscall("socket", "netlink") {
            socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), family.rawValue)
        }
        descriptor = Descriptor(owning: raw)
    }

    /// Opens a socket in another network namespace.
    package init(_ family: Family, in namespace: Descriptor) throws(SyscallError) {
        let raw = smi_netns_socket(namespace.raw, AF_NETLINK, Int32(SOCK_RAW.rawValue), family.rawValue)
        guard raw >= 0 else { throw SyscallError("socket", code: -raw, subject: "netlink") }
        descriptor = Descriptor(owning: raw)
    }

    /// Takes over an open socket.
    package init(owning descriptor: Descriptor) {
        self.descriptor = descriptor
    }

    /// Sends requests in one datagram; each is carried out whether or not one before it failed.
    ///
    /// - Throws: `SyscallError` for the first that failed, with `subject` as its subject.
    package func perform(_ requests: [NetlinkMessage], subject: String) throws(SyscallError) {
        let replies = try exchange(requests.map { ($0, NetlinkMessage.ack) })
        for reply in replies {
            guard let code = reply.acknowledgement, code != 0 else { continue }
            throw SyscallError("netlink", code: code, subject: subject)
        }
    }

    /// Sends one request that asks for objects, and returns them.
    package func query(_ request: NetlinkMessage, subject: String) throws(SyscallError) -> [NetlinkReply] {
        let replies = try exchange([(request, 0)])
        if let code = replies.compactMap(\.acknowledgement).first(where: { $0 != 0 }) {
            throw SyscallError("netlink", code: code, subject: subject)
        }
        return replies.filter { $0.acknowledgement == nil && $0.type != 3 }
    }

    /// Waits until a link that has just come up can send: until then the kernel drops its packets without a word.
    package func settle(link name: String) throws(SyscallError) {
        try syscall("ioctl", name) { smi_link_settle(descriptor.raw, name) }
    }

    /// Sends messages and returns everything that the kernel answered.
    func exchange(_ messages: [(message: NetlinkMessage, flags: UInt16)]) throws(SyscallError) -> [NetlinkReply] {
        var datagram: [UInt8] = []
        for (index, entry) in messages.enumerated() {
            var bytes = entry.message.encoded(sequence: UInt32(index + 1))
            let flags = Bytes.of(entry.message.flags | entry.flags)
            bytes.replaceSubrange(6..<8, with: flags)
            datagram += bytes
        }
        try syscall("send", "netlink") { send(descriptor.raw, datagram, datagram.count, 0) }
        var replies: [NetlinkReply] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(descriptor.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                if code == EAGAIN { return replies }
                throw SyscallError("recv", code: code, subject: "netlink")
            }
            replies += NetlinkReply.parse(Array(buffer[..<count]))
        }
    }
}
