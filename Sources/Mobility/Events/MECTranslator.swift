/// From MEC notifications to events: lists of associated stations are compared with the list before.
package struct MECTranslator: Sendable {
    private struct List: Sendable {
        var stations: Set<String>
        var time: Double
    }

    private var lists: [String: List] = [:]
    private var total = 0
    private let limit: Int

    /// Makes a translator that remembers at most this many stations and access points in total.
    package init(limit: Int = 1_000_000) {
        self.limit = limit
    }

    /// Stations remembered, of all access points.
    package var remembered: Int { total }

    /// The events that a notification stands for; nil where it is older than the last one of its access point, or where
    /// there is no room to remember it.
    package mutating func translate(_ notification: MECNotification, received: Double) -> [RoamingEvent]? {
        switch notification {
        case .associated(let names, let stations, let time):
            return compare(names, Set(stations), time: time ?? received, received: received)
        case .located(let address, let accessPoint, let enters, let time):
            var event = Self.event(enters ? .associated : .disassociated, [accessPoint], time ?? received, received)
            event.source = .mecLocation
            event.station = MACAddress(address)?.description ?? address
            event.userName = address.split(separator: ":", maxSplits: 1).last.map(String.init)
            return [event]
        case .other:
            return []
        }
    }

    /// Takes a notification back whose events found no room, so that its repetition gives them again.
    package mutating func forget(_ notification: MECNotification) {
        guard case .associated(let names, _, _) = notification, let key = names.first else { return }
        if let list = lists.removeValue(forKey: key) { total -= list.stations.count + 1 }
    }

    private mutating func compare(
        _ names: [String],
        _ stations: Set<String>,
        time: Double,
        received: Double
    ) -> [RoamingEvent]? {
        guard let key = names.first else { return nil }
        let old = lists[key]
        if let old, time < old.time { return nil }
        let growth = stations.count - (old?.stations.count ?? -1)
        guard growth <= 0 || total + growth <= limit else { return nil }
        total += growth
        lists[key] = List(stations: stations, time: time)
        let before = old?.stations ?? []
        let gone = before.subtracting(stations).sorted().map { (RoamingEvent.Kind.disassociated, $0) }
        let come = stations.subtracting(before).sorted().map { (RoamingEvent.Kind.associated, $0) }
        return (gone + come).map { kind, station in
            var event = Self.event(kind, names, time, received)
            event.station = station
            return event
        }
    }

    private static func event(
        _ kind: RoamingEvent.Kind,
        _ names: [String],
        _ time: Double,
        _ received: Double
    ) -> RoamingEvent {
        RoamingEvent(kind: kind, time: time, received: received, ap: names, source: .mecWLAN)
    }
}
