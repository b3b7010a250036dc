/// The conversation with one hostapd control socket, without the socket.
///
/// ATTACH, then `STATUS` for the access point's address, then the list of stations that are there already; from then on
/// events as they come and a PING now and then. Any silence ends the session, and the driver begins another.
package struct HostapdSession: Sendable {
    /// What the driver has to do.
    package enum Effect: Sendable, Hashable {
        /// Send this command.
        case send(String)
        /// Hand this on.
        case event(RoamingEvent)
        /// Count this.
        case count(RoamingCounter)
        /// hostapd is there and ATTACH was accepted.
        case attached
        /// hostapd does not answer any more: close the socket and begin again.
        case lost
    }

    /// Most bytes of a message or an answer; hostapd's own buffer is 4096.
    package static let maximumMessage = 4096

    private enum Request: Sendable, Hashable {
        case attach
        case status
        case first
        case next(MACAddress)
        case identity(RoamingEvent, MACAddress)
        case ping

        var command: String {
            switch self {
            case .attach: "ATTACH"
            case .status: "STATUS"
            case .first: "STA-FIRST"
            case .next(let station): "STA-NEXT \(station)"
            case .identity(_, let station): "STA \(station)"
            case .ping: "PING"
            }
        }
    }

    private let asksIdentity: Bool
    private let patience: Double
    private let pingInterval: Double
    private var accessPoint: String?
    private let nas: String
    private var waiting = Fifo<Request>()
    private var outstanding: (request: Request, deadline: Double)?
    private var lastHeard: Double
    private var listed: Set<MACAddress> = []
    private var isOver = false
    /// Stations that are here as far as we know; kept by the driver from one session to the next.
    package private(set) var stations: Set<MACAddress>

    /// Begins a session.
    ///
    /// `accessPoint` is the name to use, nil to ask hostapd for its BSSID; `nas` names the socket in events; `stations`
    /// is what the session before left behind; times are in seconds.
    package init(
        accessPoint: String?,
        nas: String,
        stations: Set<MACAddress> = [],
        asksIdentity: Bool = true,
        patience: Double = 2,
        pingInterval: Double = 5,
        now: Double
    ) {
        self.accessPoint = accessPoint
        self.nas = nas
        self.stations = stations
        self.asksIdentity = asksIdentity
        self.patience = patience
        self.pingInterval = pingInterval
        self.lastHeard = now
    }

    /// The first command.
    package mutating func start(now: Double) -> [Effect] {
        enqueue(.attach, now: now)
    }

    /// Time passes: a command that was not answered ends the session, a long silence is broken by a PING.
    package mutating func tick(now: Double) -> [Effect] {
        guard !isOver else { return [] }
        if let outstanding, now >= outstanding.deadline { return end() }
        guard outstanding == nil, now - lastHeard >= pingInterval else { return [] }
        return enqueue(.ping, now: now)
    }

    /// hostapd was replaced or does not take datagrams.
    package mutating func end() -> [Effect] {
        guard !isOver else { return [] }
        isOver = true
        // Associations whose identity was still being asked for are told without it.
        var effects: [Effect] = [.count(.hostapdLost)]
        if case .identity(let event, _)? = outstanding?.request { effects.append(.event(event)) }
        outstanding = nil
        while let request = waiting.popFirst() {
            if case .identity(let event, _) = request { effects.append(.event(event)) }
        }
        return effects + [.lost]
    }

    /// A datagram from hostapd.
    package mutating func receive(_ bytes: [UInt8], now: Double) -> [Effect] {
        guard !isOver else { return [] }
        guard bytes.count <= Self.maximumMessage else { return [.count(.hostapdMalformed)] }
        lastHeard = now
        if let message = HostapdMessage(bytes) { return on(message, now: now) }
        guard bytes.first != UInt8(ascii: "<"), let (request, _) = outstanding else {
            return [.count(.hostapdMalformed)]
        }
        outstanding = nil
        let answer = String(decoding: bytes, as: UTF8.self)
        var effects = on(answer, to: request, now: now)
        if outstanding == nil, let next = waiting.popFirst() { effects += send(next, now: now) }
        return effects
    }

    // MARK: messages

    private mutating func on(_ message: HostapdMessage, now: Double) -> [Effect] {
        switch message {
        case .connected(let station):
            stations.insert(station)
            listed.insert(station)
            let event = event(.associated, station, now: now)
            // A queue this long means that hostapd answers slower than stations come: go without identities.
            guard asksIdentity, waiting.count < 256 else { return [.count(.hostapdEvents), .event(event)] }
            return [.count(.hostapdEvents)] + enqueue(.identity(event, station), now: now)
        case .disconnected(let station):
            stations.remove(station)
            listed.remove(station)
            return [.count(.hostapdEvents), .event(event(.disassociated, station, now: now))]
        case .terminating:
            stations = []
            var event = event(.reset, nil, now: now)
            event.nas = nas
            return [.count(.hostapdEvents), .event(event)] + end()
        case .other:
            return [.count(.hostapdIgnored)]
        }
    }

    private func event(_ kind: RoamingEvent.Kind, _ station: MACAddress?, now: Double) -> RoamingEvent {
        RoamingEvent(
            kind: kind,
            time: now,
            received: now,
            station: station?.description,
            ap: [accessPoint ?? nas],
            nas: nas,
            source: .hostapd
        )
    }

    // MARK: answers

    private mutating func on(_ answer: String, to request: Request, now: Double) -> [Effect] {
        switch request {
        case .attach:
            guard answer.hasPrefix("OK") else { return end() }
            if accessPoint == nil { waiting.append(.status) }
            waiting.append(.first)
            return [.count(.hostapdAttached), .attached]
        case .status:
            for line in answer.split(whereSeparator: \.isNewline) where line.hasPrefix("bssid[0]=") {
                accessPoint = MACAddress(line.dropFirst("bssid[0]=".count))?.description
            }
            return []
        case .first, .next:
            return on(HostapdStation(answer: answer), now: now)
        case .identity(var event, let station):
            if let told = HostapdStation(answer: answer), told.address == station { event.userName = told.identity }
            return [.event(event)]
        case .ping:
            return answer.hasPrefix("PONG") ? [] : end()
        }
    }

    /// One entry of the list of stations; nil ends the list, and who was here before and is not listed has left.
    private mutating func on(_ entry: HostapdStation?, now: Double) -> [Effect] {
        guard let entry else {
            let gone = stations.subtracting(listed).sorted()
            stations = listed
            return gone.map { .event(event(.disassociated, $0, now: now)) }
        }
        var effects: [Effect] = []
        if entry.isAuthorized, listed.insert(entry.address).inserted {
            stations.insert(entry.address)
            var event = event(.present, entry.address, now: now)
            event.userName = entry.identity
            event.sessionSeconds = entry.connectedSeconds
            effects = [.count(.hostapdEvents), .event(event)]
        }
        // hostapd's tables hold at most 2007 stations; a list that goes on is no list.
        guard listed.count <= 4096 else { return effects + end() }
        return effects + enqueue(.next(entry.address), now: now)
    }

    // MARK: one command at a time

    private mutating func enqueue(_ request: Request, now: Double) -> [Effect] {
        guard outstanding == nil else {
            waiting.append(request)
            return []
        }
        return send(request, now: now)
    }

    private mutating func send(_ request: Request, now: Double) -> [Effect] {
        outstanding = (request, now + patience)
        return [.send(request.command)]
    }
}
