import CLinux
import Glibc

extension NetworkNamespace {
    /// Opens a TCP connection that begins in this namespace; the socket can be used from any other.
    ///
    /// Blocks until connected or refused.
    package func connect(ipv4 address: String, port: UInt16) throws(SyscallError) -> Descriptor {
        let raw = smi_netns_socket(descriptor.raw, AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard raw >= 0 else { throw SyscallError("socket", code: -raw, subject: address) }
        let socket = Descriptor(owning: raw)
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = port.bigEndian
        guard inet_pton(AF_INET, address, &target.sin_addr) == 1 else {
            throw SyscallError("inet_pton", code: EINVAL, subject: address)
        }
        try syscall("connect", "\(address) port \(port)") {
            withUnsafePointer(to: &target) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        return socket
    }
}
