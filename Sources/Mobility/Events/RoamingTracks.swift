/// Users' tracks in slots, found by name, with a limit: over it a track that was quiet for long makes room.
struct RoamingTracks: Sendable {
    private var slots: ContiguousArray<RoamingTrack> = []
    private var byUser: [String: Int32] = [:]
    private let limit: Int
    private var hand = 0

    init(limit: Int = 1_000_000) {
        self.limit = min(max(1, limit), Int(Int32.max))
    }

    var count: Int { byUser.count }

    subscript(slot: Int32) -> RoamingTrack {
        get { slots[Int(slot)] }
        _modify { yield &slots[Int(slot)] }
    }

    /// The slot of a user; nil where there is none yet.
    func find(_ user: String) -> Int32? {
        byUser[user]
    }

    /// Makes a track.
    ///
    /// Where all slots are taken, `evict` is called with the one that goes.
    mutating func add(_ user: String, station: String, evict: (RoamingTrack, Int32) -> Void) -> Int32 {
        var track = RoamingTrack(user: user, station: station)
        if slots.count < limit {
            slots.append(track)
            byUser[user] = Int32(slots.count - 1)
            return Int32(slots.count - 1)
        }
        let slot = quietest()
        let old = slots[Int(slot)]
        evict(old, slot)
        byUser[old.user] = nil
        track.generation = old.generation &+ 1
        slots[Int(slot)] = track
        byUser[user] = slot
        return slot
    }

    /// The one heard of longest ago among the next sixteen; a sweep that costs the same for any number of users.
    private mutating func quietest() -> Int32 {
        var best = hand
        for step in 0..<min(16, slots.count) {
            let candidate = (hand + step) % slots.count
            if slots[candidate].lastTime < slots[best].lastTime { best = candidate }
        }
        hand = (hand + 16) % slots.count
        return Int32(best)
    }
}

/// Access points and NASs by number, and which tracks are at each.
struct PlaceTable: Sendable {
    private var numbers: [String: Int32] = [:]
    private var names: [String] = []
    private var present: [Int32: Set<Int32>] = [:]

    /// The number of a name; a new one where there is room under the limit, else nil.
    mutating func number(of name: String, limit: Int) -> Int32? {
        if let number = numbers[name] { return number }
        guard names.count < limit else { return nil }
        names.append(name)
        numbers[name] = Int32(names.count - 1)
        return Int32(names.count - 1)
    }

    /// The number of a name that was met before.
    func find(_ name: String) -> Int32? {
        numbers[name]
    }

    func name(_ number: Int32) -> String {
        names[Int(number)]
    }

    /// Notes that a track's current stay is at this access point and NAS.
    mutating func enter(_ slot: Int32, _ stay: RoamingTrack.Stay) {
        present[stay.ap, default: []].insert(slot)
        if stay.nas >= 0, stay.nas != stay.ap { present[stay.nas, default: []].insert(slot) }
    }

    /// Notes that it is not any more.
    mutating func leave(_ slot: Int32, _ stay: RoamingTrack.Stay) {
        present[stay.ap]?.remove(slot)
        if stay.nas >= 0 { present[stay.nas]?.remove(slot) }
    }

    /// Tracks at an access point or NAS, in a stable order.
    func tracks(at place: Int32) -> [Int32] {
        (present[place] ?? []).sorted()
    }
}
