/// What the command line's `smirun mobility …` does.
public enum MobilityCommands {
    /// Reads association records and answers each with a prediction, made before the record is learned from.
    ///
    /// - Parameters:
    ///   - aps: the AP map, CSV or GeoJSON (`APMapReader`); nil for none.
    ///   - leads: lead times in seconds that replica lists are wanted for.
    ///   - replicas: access points per list.
    ///   - input: lines of `day,t_s,user,ap,event,rssi_dbm`; a header may name other orders.
    ///   - output: one JSON line per start or roam; all answers to what was read are written before the next read.
    ///   - diagnostics: takes messages for people: malformed lines are counted and told once at the end.
    /// - Throws: where the map cannot be used, or input or output fail; a malformed line never throws.
    public static func predict(
        aps: [UInt8]?,
        leads: [Double],
        replicas: Int,
        input: inout some ByteSource,
        output: inout some ByteSink,
        diagnostics: (String) -> Void
    ) throws(MobilityError) {
        let map = try aps.map { bytes throws(MobilityError) in try APMapReader.read(bytes) } ?? APMap()
        var session = PredictSession(map: map, leads: leads, replicas: replicas)
        var buffer: [UInt8] = []
        var more = true
        while more {
            more = try input.read(into: &buffer)
            if !more, let last = buffer.last, last != UInt8(ascii: "\n") { buffer.append(UInt8(ascii: "\n")) }
            var start = 0
            var place = 0
            while place < buffer.count {
                if buffer[place] == UInt8(ascii: "\n") {
                    session.take(buffer, start..<place, diagnostics: diagnostics)
                    start = place + 1
                }
                place += 1
                if session.out.count > 1 << 16 { try session.flush(to: &output) }
            }
            buffer.removeSubrange(0..<start)
            if buffer.count > PredictSession.longestLine {
                session.reject(diagnostics: diagnostics)
                buffer.removeAll()
                session.skipping = true
            }
            try session.flush(to: &output)
        }
        session.finish(diagnostics: diagnostics)
    }

    /// The same with the AP map in a file.
    public static func predict(
        apsPath: String?,
        leads: [Double],
        replicas: Int,
        input: inout some ByteSource,
        output: inout some ByteSink,
        diagnostics: (String) -> Void
    ) throws(MobilityError) {
        let bytes = try apsPath.map { path throws(MobilityError) in try WholeFile.read(path) }
        try predict(
            aps: bytes,
            leads: leads,
            replicas: replicas,
            input: &input,
            output: &output,
            diagnostics: diagnostics
        )
    }
}

/// One run of `mobility predict`.
struct PredictSession {
    static let longestLine = 1 << 16
    /// Access points told per prediction.
    static let told = 8

    let predictor: Predictor
    let leads: [Double]
    let leadNames: [[UInt8]]
    let replicas: Int
    var out: [UInt8] = []
    var skipping = false
    private var columns: AssociationLine.Columns?
    private var bad = 0
    private var lines = 0
    private var names: [[UInt8]] = []

    init(map: APMap, leads: [Double], replicas: Int) {
        predictor = Predictor(map: map)
        self.leads = leads
        self.replicas = replicas
        leadNames = leads.map { lead in
            var bytes: [UInt8] = []
            JSONBytes.echo([], value: lead, into: &bytes)
            while bytes.contains(UInt8(ascii: ".")), bytes.last == UInt8(ascii: "0") { bytes.removeLast() }
            return bytes
        }
        out.reserveCapacity(1 << 17)
    }

    /// Handles one line.
    mutating func take(_ buffer: [UInt8], _ range: Range<Int>, diagnostics: (String) -> Void) {
        if skipping {
            skipping = false
            return
        }
        lines += 1
        var end = range.upperBound
        if end > range.lowerBound, buffer[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        let line = range.lowerBound..<end
        if line.isEmpty { return }
        if columns == nil {
            if let header = AssociationLine.Columns(header: buffer[line]) {
                columns = header
                return
            }
            columns = AssociationLine.Columns()
        }
        guard let parsed = AssociationLine(buffer, line, columns ?? .init()) else {
            reject(diagnostics: diagnostics)
            return
        }
        if parsed.record.kind.isAssociation {
            predictor.core.prepare(parsed.record, leads: leads)
            answer(parsed, buffer)
        }
        predictor.learn(parsed.record)
    }

    mutating func reject(diagnostics: (String) -> Void) {
        bad += 1
        if bad == 1 { diagnostics("line \(lines) is malformed and was passed over; further ones are counted") }
    }

    func finish(diagnostics: (String) -> Void) {
        if bad > 1 { diagnostics("\(bad) of \(lines) lines were malformed and passed over") }
    }

    mutating func flush(to output: inout some ByteSink) throws(MobilityError) {
        guard !out.isEmpty else { return }
        try output.write(out)
        out.removeAll(keepingCapacity: true)
    }

    private mutating func name(_ ap: Int32) {
        while names.count <= Int(ap) {
            var bytes: [UInt8] = []
            JSONBytes.string(predictor.core.index.names[names.count], into: &bytes)
            names.append(bytes)
        }
        out += names[Int(ap)]
    }

    private mutating func put(_ text: StaticString) {
        text.withUTF8Buffer { out.append(contentsOf: $0) }
    }

    private mutating func answer(_ line: AssociationLine, _ buffer: [UInt8]) {
        put("{\"user\":")
        JSONBytes.string(line.record.user, into: &out)
        put(",\"day\":")
        if line.day.isEmpty {
            put("null")
        } else {
            JSONBytes.echo(buffer[line.day], value: Double(line.record.day ?? 0), into: &out)
        }
        put(",\"t\":")
        JSONBytes.echo(buffer[line.time], value: line.record.time, into: &out)
        put(",\"ap\":")
        name(predictor.core.outcome.ap)
        put(",\"next\":[")
        for (place, step) in predictor.core.outcome.steps.prefix(Self.told).enumerated() {
            put(place == 0 ? "{\"ap\":" : ",{\"ap\":")
            name(step.ap)
            put(",\"p\":")
            JSONBytes.number(Double(step.probability), decimals: 4, into: &out)
            put(",\"eta_s\":")
            JSONBytes.number(Double(step.median), decimals: 2, into: &out)
            put("}")
        }
        put("],\"replicas\":{")
        for (place, lead) in leadNames.enumerated() {
            put(place == 0 ? "\"" : ",\"")
            out += lead
            put("\":[")
            for (rank, expected) in predictor.core.outcome.horizons[place].prefix(replicas).enumerated() {
                if rank > 0 { put(",") }
                name(expected.ap)
            }
            put("]")
        }
        put("}}\n")
    }
}
