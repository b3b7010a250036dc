import NIOCore

/// The accounting server without its socket: datagrams in, answers and events out.
///
/// What is malformed, comes from nobody we know or is not signed costs a counter. Duplicates (same source, identifier
/// and authenticator: RFC 5080 section 2.2.2) are answered again and give no second event.
package struct RadiusResponder: Sendable {
    /// One peer or network of peers.
    package struct Client: Sendable, Hashable {
        /// The shared secret.
        package var secret: [UInt8]
        /// The access point that this client is, where it is exactly one; else the attributes say.
        package var accessPoint: String?

        package init(secret: [UInt8], accessPoint: String? = nil) {
            self.secret = secret
            self.accessPoint = accessPoint
        }
    }

    /// What to do about a datagram.
    package enum Verdict: Sendable, Hashable {
        /// Nothing but count it.
        case ignore(RoamingCounter)
        /// Send these bytes back and count it.
        case answer([UInt8], RoamingCounter)
        /// Hand the event on; if it was taken, call `accepted` and send the bytes back, else say nothing: the peer will
        /// repeat.
        case deliver(RoamingEvent, answer: [UInt8], key: Key)
    }

    /// What makes two datagrams the same request.
    package struct Key: Sendable, Hashable {
        let address: IPAddress
        let port: Int
        let identifier: UInt8
        let authenticator: [UInt8]
    }

    private let clients: IPPrefixTable<Client>
    private let memory: Double
    private var recent: [Key: Double] = [:]
    private var order = Fifo<(key: Key, time: Double)>()
    private let limit: Int

    /// `clients`: who may send, by address; the longest prefix wins.
    ///
    /// `duplicateLimit`: most requests remembered. `duplicateSeconds`: how long a request is remembered.
    package init(clients: IPPrefixTable<Client>, duplicateLimit: Int = 65_536, duplicateSeconds: Double = 60) {
        self.clients = clients
        self.limit = max(1, duplicateLimit)
        self.memory = duplicateSeconds
    }

    /// How many requests are remembered now.
    package var remembered: Int { recent.count }

    /// Judges one datagram.
    ///
    /// `now`: our clock, seconds since the epoch.
    package func judge(_ datagram: ByteBuffer, from source: SocketAddress, now: Double) -> Verdict {
        guard let address = IPAddress(source), let client = clients.lookup(address) else {
            return .ignore(.radiusUnknownClient)
        }
        let view = datagram.readableBytesView
        guard let code = view.first, view.count >= RadiusPacket.headerLength else { return .ignore(.radiusMalformed) }
        guard code == RadiusCode.accountingRequest || code == RadiusCode.statusServer else {
            return .ignore(.radiusUnexpectedCode)
        }
        let packet: RadiusPacket
        do throws(RadiusDefect) {
            packet = try RadiusPacket(parsing: Array(view.prefix(RadiusPacket.maximumLength)))
        } catch {
            return .ignore(.radiusMalformed)
        }
        guard RadiusSignature.isAuthentic(packet, secret: client.secret) else {
            return .ignore(.radiusBadAuthenticator)
        }
        let answer = RadiusSignature.response(to: packet, secret: client.secret)
        guard code == RadiusCode.accountingRequest else { return .answer(answer, .radiusStatusServer) }
        let key = Key(
            address: address,
            port: source.port ?? 0,
            identifier: packet.identifier,
            authenticator: Array(packet.authenticator)
        )
        if let seen = recent[key], now - seen <= memory { return .answer(answer, .radiusDuplicates) }
        switch RadiusAccounting.read(packet, received: now, sender: source.ipAddress ?? "") {
        case .incomplete:
            return .answer(answer, .radiusIncomplete)
        case .irrelevant:
            return .answer(answer, .radiusAccepted)
        case .event(var event):
            if let name = client.accessPoint { event.ap.insert(name, at: 0) }
            return .deliver(event, answer: answer, key: key)
        }
    }

    /// Remembers a request whose event was taken, so that its repetitions are only answered.
    package mutating func accepted(_ key: Key, now: Double) {
        recent[key] = now
        order.append((key, now))
        while let oldest = order.first, order.count > limit || now - oldest.time > memory {
            _ = order.popFirst()
            if recent[oldest.key] == oldest.time { recent[oldest.key] = nil }
        }
    }
}
