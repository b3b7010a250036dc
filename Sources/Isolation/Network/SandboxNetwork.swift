import Glibc
import LinuxSystem

/// A sandbox's attachment to the network: a network namespace of its own, and a veth link to the host's.
///
/// Nothing is discovered or negotiated: addresses are usable at once, and both ends know the other's hardware address for
/// good, which is the same on every host.
package struct SandboxNetwork: Sendable {
    /// Hardware address of the host's end, on every host.
    package static let gatewayHardware: [UInt8] = [0x02, 0x53, 0x4d, 0x49, 0, 0]
    /// The gateways that a sandbox sends to; no interface holds them.
    package static let gateway4 = "169.254.1.1"
    package static let gateway6 = "fe80::1"
    /// Name of the link inside.
    package static let insideLink = "eth0"

    /// The filter that the links pass.
    package let filter: PacketFilter

    /// Attachments below a filter.
    package init(filter: PacketFilter) {
        self.filter = filter
    }

    /// The group of the host's ends ("SMI"), so that they can be told from other programs' links.
    static let group: UInt32 = 0x53_4d49

    /// The alias of a host's end: whose it is.
    static func alias(_ user: String) -> String { "smirun:" + user }

    /// Makes namespace, link, addresses and neighbours.
    ///
    /// `blocked`: for a sandbox that will be restored here; it has no route yet.
    ///
    /// - Throws: `IsolationError.addressTaken` where the link exists and is not this user's.
    package func attach(_ user: String, _ address: SandboxAddress, blocked: Bool) throws -> NetworkNamespace {
        let host = try NetlinkSocket(.route)
        try clearLink(user, address, over: host)
        let (namespace, inside) = try NetworkNamespace.create(sysctls: Self.parameters)
        try filter.admit(address, blocked: blocked)
        do {
            try makeLink(user, address, namespace, over: host)
            try configureHost(user, address, over: host)
            try configureInside(address, over: inside)
            // The end that came up first had no carrier then.
            try host.settle(link: address.hostLink)
            if !blocked { try routeHere(address, over: host) }
        } catch {
            try? detach(user, address)
            throw error
        }
        return namespace
    }

    /// Removes link and filter entries; what is not there is no error.
    ///
    /// A link of another user's is left alone.
    package func detach(_ user: String, _ address: SandboxAddress) throws {
        let host = try NetlinkSocket(.route)
        if let link = try host.link(address.hostLink) {
            guard Self.isOurs(link, of: user) else { return }
            do {
                try host.perform([RouteMessages.deleteLink(link.name)], subject: link.name)
            } catch {
                if error.code != ENODEV { throw error }
            }
        }
        try filter.forget(address)
    }

    /// Routes the sandbox's addresses to its link here, in place of a route to another host.
    package func routeHere(_ address: SandboxAddress) throws {
        try routeHere(address, over: NetlinkSocket(.route))
    }

    /// Routes a sandbox's addresses to another host, which owns it.
    package func route(_ address: SandboxAddress, via hosts: [IPAddress]) throws {
        let (ipv4, ipv6) = try address.parsed()
        guard let gateway4 = hosts.first(where: { !$0.isIPv6 }) ?? hosts.first,
            let gateway6 = hosts.first(where: \.isIPv6) ?? hosts.first
        else { return }
        try NetlinkSocket(.route).perform(
            [RouteMessages.setRoute(to: ipv4, via: gateway4), RouteMessages.setRoute(to: ipv6, via: gateway6)],
            subject: "route to \(ipv4)"
        )
    }

    /// Links on this host that are sandboxes', by user.
    package static func links() throws -> [String: String] {
        var found: [String: String] = [:]
        for link in try NetlinkSocket(.route).links() {
            guard let alias = link.alias, alias.hasPrefix("smirun:") else { continue }
            found[String(alias.dropFirst("smirun:".count))] = link.name
        }
        return found
    }

    /// MPTCP sockets cannot be dumped, and Go listens with them where it can; nobody advertises routers here.
    private static let parameters: [(path: String, value: String, optional: Bool)] = [
        ("net/mptcp/enabled", "0", true),
        ("net/ipv6/conf/default/accept_ra", "0", true),
    ]

    /// Removes a link that a crash has left of this user's; refuses to touch any other.
    private func clearLink(_ user: String, _ address: SandboxAddress, over host: NetlinkSocket) throws {
        guard let link = try host.link(address.hostLink) else { return }
        guard Self.isOurs(link, of: user) else {
            let owner = link.alias.map { " (\($0))" } ?? ""
            throw IsolationError(
                .addressTaken,
                cause: "a link \(link.name)\(owner) exists already, so \(address.ipv4) cannot be attached here",
                remedy: "delete it (`ip link del \(link.name)`) if nothing uses it"
            )
        }
        try host.perform([RouteMessages.deleteLink(link.name)], subject: link.name)
    }

    /// A link that was made here for a user, or for nobody any more: its maker crashed before it had named it.
    private static func isOurs(_ link: LinkDescription, of user: String) -> Bool {
        link.group == group && (link.alias == nil || link.alias == alias(user))
    }

    private func makeLink(
        _ user: String,
        _ address: SandboxAddress,
        _ namespace: NetworkNamespace,
        over host: NetlinkSocket
    ) throws {
        let request = RouteMessages.makeVeth(
            address.hostLink,
            address: Self.gatewayHardware,
            group: Self.group,
            peer: Self.insideLink,
            peerAddress: address.mac,
            peerNamespace: namespace.descriptor
        )
        try host.perform([request], subject: address.hostLink)
    }

    private func configureHost(_ user: String, _ address: SandboxAddress, over host: NetlinkSocket) throws {
        let (ipv4, ipv6) = try address.parsed()
        guard let link = try host.link(address.hostLink) else {
            throw SyscallError("netlink", code: ENODEV, subject: address.hostLink)
        }
        try host.perform(
            [
                RouteMessages.configure(index: link.index, alias: Self.alias(user)),
                RouteMessages.setUp(index: link.index),
                RouteMessages.addNeighbour(ipv4, hardware: address.mac, index: link.index),
                RouteMessages.addNeighbour(ipv6, hardware: address.mac, index: link.index),
            ],
            subject: address.hostLink
        )
    }

    private func configureInside(_ address: SandboxAddress, over inside: NetlinkSocket) throws {
        let (ipv4, ipv6) = try address.parsed()
        guard let loopback = try inside.link("lo"), let link = try inside.link(Self.insideLink),
            let gateway4 = IPAddress(Self.gateway4), let gateway6 = IPAddress(Self.gateway6)
        else { throw SyscallError("netlink", code: ENODEV, subject: Self.insideLink) }
        try inside.perform(
            [
                RouteMessages.setUp(index: loopback.index),
                RouteMessages.configure(index: link.index, alias: nil),
                RouteMessages.setUp(index: link.index),
                RouteMessages.addAddress(ipv4, index: link.index),
                RouteMessages.addAddress(ipv6, index: link.index),
                RouteMessages.addNeighbour(gateway4, hardware: Self.gatewayHardware, index: link.index),
                RouteMessages.addNeighbour(gateway6, hardware: Self.gatewayHardware, index: link.index),
                RouteMessages.setDefaultRoute(via: gateway4, index: link.index),
                RouteMessages.setDefaultRoute(via: gateway6, index: link.index),
            ],
            subject: "\(address.ipv4) inside"
        )
    }

    private func routeHere(_ address: SandboxAddress, over host: NetlinkSocket) throws {
        let (ipv4, ipv6) = try address.parsed()
        guard let link = try host.link(address.hostLink) else {
            throw SyscallError("netlink", code: ENODEV, subject: address.hostLink)
        }
        try host.perform(
            [
                RouteMessages.setRoute(to: ipv4, index: link.index),
                RouteMessages.setRoute(to: ipv6, index: link.index),
            ],
            subject: address.hostLink
        )
    }
}
