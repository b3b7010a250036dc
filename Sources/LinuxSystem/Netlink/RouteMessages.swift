import Glibc

/// Requests of rtnetlink(7) on links, addresses, neighbours and routes.
package enum RouteMessages {
    /// Makes a veth pair in one step, with the peer in another network namespace; both ends are down.
    ///
    /// EEXIST: the name is taken. `group` marks the near end, from its first moment, as its maker's.
    package static func makeVeth(
        _ name: String,
        address: [UInt8],
        group: UInt32,
        peer: String,
        peerAddress: [UInt8],
        peerNamespace: Descriptor
    ) -> NetlinkMessage {
        var message = NetlinkMessage(
            type: 16,
            flags: NetlinkMessage.create | NetlinkMessage.exclusive,
            fixed: link(index: 0)
        )
        message.attribute(3, string: name)
        message.attribute(1, address)
        message.attribute(27, group)
        message.nest(18) { info in
            info.attribute(1, string: "veth")
            info.nest(2) { data in
                data.nest(1) { end in
                    end.raw(link(index: 0))
                    end.attribute(3, string: peer)
                    end.attribute(1, peerAddress)
                    end.attribute(28, UInt32(bitPattern: peerNamespace.raw))
                }
            }
        }
        return message
    }

    /// Sets what a link's end needs before it is up: no link-local address of its own, no ARP answers for other links'
    /// addresses, no redirects, and an alias that names its owner.
    package static func configure(index: Int32, alias: String?) -> NetlinkMessage {
        var message = NetlinkMessage(type: 19, flags: 0, fixed: link(index: index))
        if let alias { message.attribute(20, string: alias) }
        message.nest(26) { families in
            families.nest(UInt16(AF_INET)) { family in
                family.nest(1) { settings in
                    settings.attribute(4, UInt32(0))  // accept_redirects
                    settings.attribute(6, UInt32(0))  // send_redirects
                    settings.attribute(8, UInt32(0))  // rp_filter: the packet filter checks sources itself
                    settings.attribute(19, UInt32(8))  // arp_ignore: answer for nothing, neighbours are permanent
                }
            }
            families.nest(UInt16(AF_INET6)) { $0.attribute(8, UInt8(1)) }  // addrgenmode none
        }
        return message
    }

    /// Brings a link up.
    package static func setUp(index: Int32) -> NetlinkMessage {
        let up = UInt32(IFF_UP)
        return NetlinkMessage(type: 19, flags: 0, fixed: link(index: index, flags: up, change: up))
    }

    /// Deletes a link by name; ENODEV where there is none.
    package static func deleteLink(_ name: String) -> NetlinkMessage {
        var message = NetlinkMessage(type: 17, flags: 0, fixed: link(index: 0))
        message.attribute(3, string: name)
        return message
    }

    /// Asks for one link by name.
    package static func getLink(_ name: String) -> NetlinkMessage {
        var message = NetlinkMessage(type: 18, flags: 0, fixed: link(index: 0))
        message.attribute(3, string: name)
        return message
    }

    /// Asks for all links.
    package static func listLinks() -> NetlinkMessage {
        NetlinkMessage(type: 18, flags: NetlinkMessage.dump, fixed: link(index: 0))
    }

    /// Gives a link an address that names one host; usable at once (no duplicate address detection).
    package static func addAddress(_ address: IPAddress, index: Int32) -> NetlinkMessage {
        let fixed: [UInt8] = [address.family, address.hostPrefix, 0, 0] + Bytes.of(index)
        var message = NetlinkMessage(
            type: 20,
            flags: NetlinkMessage.create | NetlinkMessage.replace,
            fixed: fixed
        )
        message.attribute(2, address.bytes)
        message.attribute(1, address.bytes)
        if address.isIPv6 { message.attribute(8, UInt32(0x02)) }  // IFA_F_NODAD
        return message
    }

    /// Makes a neighbour permanent, so that no packet ever waits for ARP or neighbour discovery.
    package static func addNeighbour(_ address: IPAddress, hardware: [UInt8], index: Int32) -> NetlinkMessage {
        let fixed: [UInt8] = [address.family, 0, 0, 0] + Bytes.of(index) + Bytes.of(UInt16(0x80)) + [0, 0]
        var message = NetlinkMessage(
            type: 28,
            flags: NetlinkMessage.create | NetlinkMessage.replace,
            fixed: fixed
        )
        message.attribute(1, address.bytes)
        message.attribute(2, hardware)
        return message
    }

    /// Routes everything to a gateway that need not lie in any network of the link.
    package static func setDefaultRoute(via gateway: IPAddress, index: Int32) -> NetlinkMessage {
        var message = route(family: gateway.family, prefix: 0, scope: 0, flags: 4, type: 24)  // RTNH_F_ONLINK
        message.attribute(5, gateway.bytes)
        message.attribute(4, index)
        return message
    }

    /// Routes one host's address to a link, replacing a route that there is.
    package static func setRoute(to address: IPAddress, index: Int32) -> NetlinkMessage {
        var message = route(
            family: address.family,
            prefix: address.hostPrefix,
            scope: address.isIPv6 ? 0 : 253,
            flags: 0,
            type: 24
        )
        message.attribute(1, address.bytes)
        message.attribute(4, index)
        return message
    }

    /// Routes one host's address to another host, replacing a route that there is.
    package static func setRoute(to address: IPAddress, via gateway: IPAddress) -> NetlinkMessage {
        var message = route(family: address.family, prefix: address.hostPrefix, scope: 0, flags: 0, type: 24)
        message.attribute(1, address.bytes)
        if gateway.isIPv6 == address.isIPv6 {
            message.attribute(5, gateway.bytes)
        } else {
            // RTA_VIA: a gateway of the other version.
            message.attribute(18, Bytes.of(UInt16(gateway.family)) + gateway.bytes)
        }
        return message
    }

    /// Deletes the route to one host's address; ESRCH where there is none.
    package static func deleteRoute(to address: IPAddress) -> NetlinkMessage {
        // RT_SCOPE_NOWHERE matches a route of any scope.
        var message = route(
            family: address.family,
            prefix: address.hostPrefix,
            scope: 255,
            flags: 0,
            type: 25,
            protocolNumber: 0
        )
        message.attribute(1, address.bytes)
        return message
    }

    private static func link(index: Int32, flags: UInt32 = 0, change: UInt32 = 0) -> [UInt8] {
        [0, 0, 0, 0] + Bytes.of(index) + Bytes.of(flags) + Bytes.of(change)
    }

    private static func route(
        family: UInt8,
        prefix: UInt8,
        scope: UInt8,
        flags: UInt32,
        type: UInt16,
        protocolNumber: UInt8 = 4
    ) -> NetlinkMessage {
        let make = type == 24
        let fixed: [UInt8] = [family, prefix, 0, 0, 254, protocolNumber, scope, make ? 1 : 0] + Bytes.of(flags)
        return NetlinkMessage(
            type: type,
            flags: make ? NetlinkMessage.create | NetlinkMessage.replace : 0,
            fixed: fixed
        )
    }
}

/// A network link as the kernel describes it.
package struct LinkDescription: Sendable, Equatable {
    package let index: Int32
    package let name: String
    /// The alias that its maker gave it.
    package let alias: String?
    /// The group that its maker put it into; 0 by default.
    package let group: UInt32

    /// Reads RTM_NEWLINK.
    package init?(_ reply: NetlinkReply) {
        guard reply.type == 16, let index = Bytes.integer(reply.body, at: 4, Int32.self) else { return nil }
        let attributes = reply.attributes(after: 16)
        guard let name = attributes[3] else { return nil }
        self.index = index
        self.name = Bytes.string(name)
        self.alias = attributes[20].map(Bytes.string)
        self.group = attributes[27].flatMap { Bytes.integer($0, at: 0, UInt32.self) } ?? 0
    }
}

extension NetlinkSocket {
    /// The link of a name; nil where there is none.
    package func link(_ name: String) throws(SyscallError) -> LinkDescription? {
        do {
            return try query(RouteMessages.getLink(name), subject: name).lazy.compactMap(LinkDescription.init).first
        } catch {
            if error.code == ENODEV { return nil }
            throw error
        }
    }

    /// All links of the socket's network namespace.
    package func links() throws(SyscallError) -> [LinkDescription] {
        try query(RouteMessages.listLinks(), subject: "links").compactMap(LinkDescription.init)
    }
}
