/// What each kind of event means for a user's track.
extension RoamingNormalizer {
    /// An event whose names have been resolved.
    private struct Fact {
        let event: RoamingEvent
        let ap: Int32
        let nas: Int32
        let session: UInt64
        let station: String

        /// Whether the event is certainly earlier than `time`, given how coarse its clock is.
        func precedes(_ time: Double) -> Bool {
            event.resolution > 0 ? event.time + event.resolution <= time : event.time < time
        }

        /// Whether event and stay name the same session.
        func isSession(of stay: RoamingTrack.Stay) -> Bool {
            session != 0 && stay.session == session
        }

        func stay(since: Double) -> RoamingTrack.Stay {
            RoamingTrack.Stay(
                ap: ap,
                nas: nas,
                since: since,
                resolution: event.resolution,
                session: session,
                sources: event.source.bit
            )
        }
    }

    mutating func apply(_ event: RoamingEvent, into records: inout [RoamingRecord]) {
        if event.kind == .reset {
            reset(event, into: &records)
            return
        }
        guard let (slot, station) = slot(for: event) else { return }
        guard let ap = place(of: event) else { return }
        let fact = Fact(
            event: event,
            ap: ap,
            nas: event.nas.flatMap { places.number(of: $0, limit: settings.placeLimit) } ?? -1,
            session: event.session.map(Self.hash) ?? 0,
            station: station
        )
        tracks[slot].day = event.day
        switch event.kind {
        case .associated: associated(fact, slot, into: &records)
        case .present: present(fact, slot, into: &records)
        case .disassociated: disassociated(fact, slot, into: &records)
        case .reset: break
        }
    }

    // MARK: names

    /// The track that an event is about; nil where no user is known for the device.
    private mutating func slot(for event: RoamingEvent) -> (slot: Int32, station: String)? {
        let pinned = event.station.flatMap { directory.user(ofStation: $0) }
        let told = event.userName.flatMap { name in
            // Lines name users as we do; other sources have identities to be read.
            event.source == .line && RoamingDirectory.isUser(name)
                ? name : RoamingDirectory.user(fromIdentity: name) ?? directory.user(ofStation: name)
        }
        guard let user = pinned ?? told ?? event.station.flatMap({ learned.user(of: $0) }) else {
            tally[.unknownStations] += 1
            report(.unknownStation(event.station ?? event.userName ?? ""))
            return nil
        }
        if pinned == nil, let station = event.station {
            guard !directory.isPinned(user) else {
                tally[.otherStations] += 1
                return nil
            }
            if told != nil { learned.learn(station, user) }
        }
        let station = event.station ?? user
        if let slot = tracks.find(user) { return (slot, station) }
        // A stop or a refusal needs no track: only an association makes one.
        guard event.kind != .disassociated else {
            tally[.staleStops] += 1
            return nil
        }
        let slot = tracks.add(user, station: station) { old, slot in
            tally[.evictedUsers] += 1
            if let stay = old.current { places.leave(slot, stay) }
        }
        return (slot, station)
    }

    /// The number of the access point that an event names; nil where it is unknown and unknown ones are refused.
    private mutating func place(of event: RoamingEvent) -> Int32? {
        let name: String
        switch directory.accessPoint(event.ap) {
        case .known(let known):
            name = known
        case .unknown(let given):
            if !directory.acceptsUnknownAccessPoints || given.isEmpty {
                tally[.unknownAccessPoints] += 1
                report(.unknownAccessPoint(given))
                return nil
            }
            name = given
        case nil:
            tally[.unknownAccessPoints] += 1
            return nil
        }
        guard let number = places.number(of: name, limit: settings.placeLimit) else {
            tally[.unknownAccessPoints] += 1
            return nil
        }
        return number
    }

    private static func hash(_ session: String) -> UInt64 {
        let value = UInt64(bitPattern: Int64(session.hashValue))
        return value == 0 ? 1 : value
    }

    // MARK: rules

    private mutating func associated(_ fact: Fact, _ slot: Int32, into records: inout [RoamingRecord]) {
        if tracks[slot].current?.ap == fact.ap {
            associatedAgain(fact, slot)
            return
        }
        guard !collapse(fact, slot) else { return }
        guard !fact.precedes(tracks[slot].lastArrival) else {
            tally[.late] += 1
            return
        }
        arrive(fact, slot, at: fact.event.time, into: &records)
    }

    /// An association where the user is already: the same one told twice, or a new one that changes nothing but lets a
    /// waiting stop lapse.
    private mutating func associatedAgain(_ fact: Fact, _ slot: Int32) {
        guard var stay = tracks[slot].current else { return }
        let told = stay.sources & fact.event.source.bit != 0
        let near =
            (fact.event.time - stay.since).magnitude <= settings.collapseWindow
            + max(fact.event.resolution, stay.resolution)
        let same = fact.isSession(of: stay) || (!told && near)
        tally[!told && near ? .collapsed : .duplicates] += 1
        if !same, let stop = tracks[slot].pendingStop, fact.event.time + fact.event.resolution >= stop.time {
            tracks[slot].pendingStop = nil
        }
        if !same { tracks[slot].lastArrival = max(tracks[slot].lastArrival, fact.event.time) }
        places.leave(slot, stay)
        stay.sources |= fact.event.source.bit
        if fact.session != 0, stay.session == 0 || !fact.precedes(stay.since) { stay.session = fact.session }
        if stay.nas < 0 { stay.nas = fact.nas }
        places.enter(slot, stay)
        tracks[slot].current = stay
        tracks[slot].station = fact.station
    }

    /// Whether the association is one of the last two stays, told by another source or once more.
    private mutating func collapse(_ fact: Fact, _ slot: Int32) -> Bool {
        let track = tracks[slot]
        let latest = track.current?.since ?? track.lastTime
        func matches(_ stay: RoamingTrack.Stay?) -> Bool {
            guard let stay, stay.ap == fact.ap else { return false }
            if fact.isSession(of: stay) { return true }
            guard stay.sources & fact.event.source.bit == 0, fact.session == 0 || stay.session == 0 else {
                return false
            }
            let slack = max(fact.event.resolution, stay.resolution)
            return (fact.event.time - stay.since).magnitude <= settings.collapseWindow + slack
                && fact.event.time <= latest + slack + settings.collapseWindow / 4
        }
        if matches(track.previous) {
            tracks[slot].previous?.sources |= fact.event.source.bit
            if fact.session != 0 { tracks[slot].previous?.session = fact.session }
        } else if matches(track.earlier) {
            tracks[slot].earlier?.sources |= fact.event.source.bit
            if fact.session != 0 { tracks[slot].earlier?.session = fact.session }
        } else {
            return false
        }
        tally[.collapsed] += 1
        return true
    }

    /// An interim report: nothing new where the user is, or how a missed start is found out elsewhere.
    ///
    /// Which of two access points is right is told by which session began later; the old one may go on reporting for
    /// minutes.
    private mutating func present(_ fact: Fact, _ slot: Int32, into records: inout [RoamingRecord]) {
        let track = tracks[slot]
        if let stay = track.current, stay.ap == fact.ap {
            tally[.duplicates] += 1
            if stay.session == 0 { tracks[slot].current?.session = fact.session }
            tracks[slot].current?.sources |= fact.event.source.bit
            return
        }
        let known = [track.previous, track.earlier].contains { $0.map(fact.isSession) ?? false }
        let began = fact.event.sessionSeconds.map { fact.event.time - $0 }
        // Without a session time, being told of an unknown session is enough only where the user is nowhere else.
        let isElsewhere = track.current != nil
        let newest = began == nil ? track.lastTime : track.lastArrival
        let evidence = began ?? (isElsewhere ? -.infinity : fact.event.time)
        guard !known, evidence > newest + settings.collapseWindow + fact.event.resolution else {
            tally[.staleInterims] += 1
            return
        }
        tally[.recovered] += 1
        arrive(fact, slot, at: began ?? fact.event.time, into: &records)
    }

    private mutating func disassociated(_ fact: Fact, _ slot: Int32, into records: inout [RoamingRecord]) {
        let track = tracks[slot]
        guard let stay = track.current, stay.ap == fact.ap, !fact.precedes(track.lastArrival) else {
            tally[.staleStops] += 1
            return
        }
        guard track.station == fact.station else {
            tally[.otherStations] += 1
            return
        }
        guard !isOlderSession(fact, than: stay, track) else {
            tally[.staleStops] += 1
            return
        }
        guard track.pendingStop == nil else {
            tally[.duplicates] += 1
            return
        }
        hold(stopOf: slot, at: max(fact.event.time, stay.since), fact.event)
        if settings.stopGrace <= 0 { releaseStops(until: .infinity, into: &records) }
    }

    /// Whether a stop ends a session from before the user came back to the same access point.
    private func isOlderSession(_ fact: Fact, than stay: RoamingTrack.Stay, _ track: RoamingTrack) -> Bool {
        if fact.session != 0, stay.session != 0 { return fact.session != stay.session }
        if [track.previous, track.earlier].contains(where: { $0.map(fact.isSession) ?? false }) { return true }
        guard let seconds = fact.event.sessionSeconds else { return false }
        let began = fact.event.time - seconds
        return began + settings.collapseWindow + fact.event.resolution + stay.resolution < stay.since
    }

    /// Ends every stay at an access point, or under a NAS, that began before it restarted.
    private mutating func reset(_ event: RoamingEvent, into records: inout [RoamingRecord]) {
        tally[.resets] += 1
        var places: Set<Int32> = []
        switch directory.accessPoint(event.ap) {
        case .known(let name), .unknown(let name): self.places.find(name).map { _ = places.insert($0) }
        case nil: break
        }
        if let nas = event.nas { self.places.find(nas).map { _ = places.insert($0) } }
        for slot in Set(places.flatMap(self.places.tracks)).sorted() {
            guard let stay = tracks[slot].current, tracks[slot].pendingStop == nil else { continue }
            guard event.resolution > 0 ? event.time + event.resolution > stay.since : event.time >= stay.since else {
                continue
            }
            hold(stopOf: slot, at: max(event.time, stay.since), event)
        }
        if settings.stopGrace <= 0 { releaseStops(until: .infinity, into: &records) }
    }

    // MARK: records

    /// The user is somewhere new.
    private mutating func arrive(_ fact: Fact, _ slot: Int32, at told: Double, into records: inout [RoamingRecord]) {
        let track = tracks[slot]
        // Records never go back, but what decides is when it happened: a stop may have been dated too late.
        let time = max(told, track.lastTime)
        let since = max(told, track.lastArrival)
        let kind: RoamingKind = track.current == nil ? .start : .roam
        // A-B-A: the last stay before the one that ends now was here, and the one that ends now was short.
        let between = track.current ?? track.previous
        let before = track.current == nil ? track.earlier : track.previous
        let flap =
            before?.ap == fact.ap && between?.ap != fact.ap
            && since - (between?.since ?? -.infinity) <= settings.flapWindow
        if flap { tally[.flaps] += 1 }
        if let stay = track.current { places.leave(slot, stay) }
        tracks[slot].move(to: fact.stay(since: since))
        tracks[slot].station = fact.station
        (tracks[slot].lastTime, tracks[slot].lastArrival) = (time, since)
        if let stay = tracks[slot].current { places.enter(slot, stay) }
        tally[.records] += 1
        records.append(
            RoamingRecord(
                time: time - Double(fact.event.day ?? 0) * 86_400,
                day: fact.event.day,
                user: track.user,
                station: fact.station,
                ap: places.name(fact.ap),
                kind: kind,
                rssi: fact.event.rssi,
                source: fact.event.source,
                session: fact.event.session,
                flap: flap
            )
        )
    }

    /// The stop that waited is true, unless it lapsed.
    mutating func emitStop(_ slot: Int32, into records: inout [RoamingRecord]) {
        let track = tracks[slot]
        guard let stop = track.pendingStop, let stay = track.current else { return }
        let time = max(stop.time, track.lastTime)
        places.leave(slot, stay)
        tracks[slot].leave()
        tracks[slot].lastTime = time
        tally[.records] += 1
        records.append(
            RoamingRecord(
                time: time - Double(track.day ?? 0) * 86_400,
                day: track.day,
                user: track.user,
                station: track.station,
                ap: places.name(stay.ap),
                kind: .stop,
                source: stop.source,
                session: stop.session,
                flap: false
            )
        )
    }
}
