import NIOCore

extension IPAddress {
    /// The address of a peer; nil for unix sockets.
    package init?(_ address: SocketAddress) {
        switch address {
        case .v4(let four):
            var value = four.address.sin_addr
            self.init(bytes: withUnsafeBytes(of: &value) { Array($0) })
        case .v6(let six):
            var value = six.address.sin6_addr
            self.init(bytes: withUnsafeBytes(of: &value) { Array($0) })
        case .unixDomainSocket:
            return nil
        }
    }
}
