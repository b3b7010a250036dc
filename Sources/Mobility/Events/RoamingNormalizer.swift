/// Turns what all event sources say into one ordered, de-duplicated sequence of roaming records.
///
/// Pure: time comes in with every call. Per user, records leave in the order of their times, never name the same access
/// point twice in a row without a stop between, and are a `start` after a stop and a `roam` otherwise. Associations
/// leave at once (with a reorder window of 0), as hand-offs wait for them; a stop waits for the grace, as it is half a
/// roam as often as not. docs/roaming-events.md has the rules in words.
package struct RoamingNormalizer: Sendable {
    /// Windows, in seconds, and limits.
    package struct Settings: Sendable, Hashable {
        /// How long events are held so that disorder is undone; 0 passes them at once and drops what comes late.
        package var reorderWindow = 0.0
        /// Most events held for that.
        package var reorderLimit = 65_536
        /// How long a stop waits for an association elsewhere, which makes it a roam.
        package var stopGrace = 3.0
        /// How far apart two sources may date the same association.
        package var collapseWindow = 1.0
        /// A return to the access point left at most this long ago is tagged as a flap.
        package var flapWindow = 10.0
        /// How far ahead of ours a source's clock may be before its timestamps are replaced by ours.
        package var clockAhead = 2.0
        /// How old an event may be before its timestamp is taken for a clock that was never set.
        package var clockBehind = 86_400.0
        /// Most users remembered; over it, one who was not heard of for long is forgotten.
        package var userLimit = 1_000_000
        /// Most access points and NASs remembered; events of further ones are dropped.
        package var placeLimit = 262_144
        /// Most unknown names reported one by one.
        package var reportLimit = 1024

        package init() {}
    }

    /// Something an operator should hear of once.
    package enum Report: Sendable, Hashable {
        /// A device that no user is known for.
        case unknownStation(String)
        /// An access point that is not in the directory.
        case unknownAccessPoint(String)
    }

    /// Who and where; may be replaced at any time.
    package var directory: RoamingDirectory
    /// What was dropped, merged and passed on.
    package internal(set) var tally = RoamingTally()
    /// Tracks of users in slots, so that they can be swept.
    var tracks = RoamingTracks()
    var places = PlaceTable()
    var learned: LearnedStations
    let settings: Settings

    private var buffer: ReorderBuffer
    private var stops = Fifo<(slot: Int32, generation: UInt32, due: Double)>()
    private var reports: [Report] = []
    private var reported: Set<Report> = []
    private var now = -Double.infinity

    package init(directory: RoamingDirectory = RoamingDirectory(), settings: Settings = Settings()) {
        self.directory = directory
        self.settings = settings
        self.tracks = RoamingTracks(limit: settings.userLimit)
        self.learned = LearnedStations(limit: settings.userLimit)
        self.buffer = ReorderBuffer(window: settings.reorderWindow, limit: settings.reorderLimit)
    }

    /// Users remembered.
    package var userCount: Int { tracks.count }

    /// When `advance` is due next, by our clock; nil where nothing waits.
    package var due: Double? {
        switch (buffer.due, stops.first?.due) {
        case (let one?, let other?): min(one, other)
        case (let one, let other): one ?? other
        }
    }

    /// Takes one event.
    ///
    /// `now`: our clock, seconds since the epoch; it may be a trace's clock in replay. It never goes back.
    /// Returns what is known now and was not before.
    package mutating func on(_ event: RoamingEvent, now clock: Double) -> [RoamingRecord] {
        var records = advance(to: clock)
        tally[.events] += 1
        guard let event = plausible(event) else {
            tally[.wrongClock] += 1
            return records
        }
        let (ready, overflowed) = buffer.push(event, now: now)
        if overflowed { tally[.reorderOverflow] += 1 }
        for event in ready { apply(event, into: &records) }
        return records
    }

    /// Lets time pass: held events leave and stops whose grace is over become records.
    package mutating func advance(to clock: Double) -> [RoamingRecord] {
        var records: [RoamingRecord] = []
        now = max(now, clock)
        for event in buffer.pop(now: now) { apply(event, into: &records) }
        releaseStops(until: now, into: &records)
        return records
    }

    /// The end of a trace: everything that waits leaves.
    package mutating func finish() -> [RoamingRecord] {
        var records: [RoamingRecord] = []
        for event in buffer.drain() { apply(event, into: &records) }
        releaseStops(until: .infinity, into: &records)
        return records
    }

    /// What to tell the operator since the last call.
    package mutating func takeReports() -> [Report] {
        defer { reports.removeAll() }
        return reports
    }

    // MARK: around the rules

    /// The event with a time that can be true; nil where none can be made.
    private mutating func plausible(_ event: RoamingEvent) -> RoamingEvent? {
        guard event.time.isFinite, event.received.isFinite else { return nil }
        guard event.source != .line else { return event }
        let ahead = event.time - event.received
        guard ahead > settings.clockAhead || -ahead > settings.clockBehind else { return event }
        tally[.wrongClock] += 1
        var corrected = event
        corrected.time = event.received
        corrected.resolution = 0
        return corrected
    }

    /// Names a thing to the operator the first time it is met.
    mutating func report(_ report: Report) {
        guard reported.count < settings.reportLimit, reported.insert(report).inserted else { return }
        reports.append(report)
    }

    /// Lets a stop of the current stay wait for the grace.
    mutating func hold(stopOf slot: Int32, at time: Double, _ event: RoamingEvent) {
        let due = now + settings.stopGrace
        tracks[slot].pendingStop = RoamingTrack.PendingStop(
            time: time,
            source: event.source,
            session: event.kind == .reset ? nil : event.session,
            due: due
        )
        guard !tracks[slot].stopQueued else { return }
        tracks[slot].stopQueued = true
        stops.append((slot, tracks[slot].generation, due))
    }

    /// Turns stops whose grace is over into records.
    mutating func releaseStops(until limit: Double, into records: inout [RoamingRecord]) {
        while let next = stops.first, next.due <= limit {
            _ = stops.popFirst()
            guard tracks[next.slot].generation == next.generation else { continue }
            if let stop = tracks[next.slot].pendingStop, stop.due > limit {
                // The stop that was queued lapsed and this is a later one: it gets its own grace.
                stops.append((next.slot, next.generation, stop.due))
                continue
            }
            tracks[next.slot].stopQueued = false
            emitStop(next.slot, into: &records)
        }
    }
}
