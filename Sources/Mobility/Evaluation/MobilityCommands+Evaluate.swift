#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension MobilityCommands {
    /// Reads a directory with `aps.csv` or `aps.geojson` and `assoc.csv` or `assoc.csv.gz`.
    public static func load(directory: String) throws(MobilityError) -> MobilityDataSet {
        func first(_ names: [String]) throws(MobilityError) -> [UInt8] {
            for name in names where access(directory + "/" + name, R_OK) == 0 {
                return try WholeFile.read(directory + "/" + name)
            }
            throw MobilityError(
                .data,
                cause: "\(directory) has no \(names.joined(separator: " or "))",
                remedy: "give a directory with an AP map and association records"
            )
        }
        let map = try APMapReader.read(try first(["aps.csv", "aps.geojson"]))
        var bytes = try first(["assoc.csv", "assoc.csv.gz"])
        if Inflate.isGzip(bytes) { bytes = try Inflate.gunzip(bytes) }
        var path = directory[...]
        while path.count > 1, path.last == "/" { path.removeLast() }
        let name = path.split(separator: "/").last.map(String.init) ?? directory
        return MobilityDataSet(name: name, map: map, records: records(bytes))
    }

    /// The well-formed lines of `day,t_s,user,ap,event,rssi_dbm`.
    static func records(_ bytes: [UInt8]) -> [RoamingRecord] {
        var records: [RoamingRecord] = []
        var columns: AssociationLine.Columns?
        var start = 0
        for place in bytes.indices where bytes[place] == 10 || place == bytes.count - 1 {
            var end = bytes[place] == 10 ? place : place + 1
            while end > start, bytes[end - 1] == 13 { end -= 1 }
            defer { start = place + 1 }
            if columns == nil {
                columns = AssociationLine.Columns(header: bytes[start..<end])
                if columns != nil { continue }
                columns = AssociationLine.Columns()
            }
            if end > start, let line = AssociationLine(bytes, start..<end, columns ?? .init()) {
                records.append(line.record)
            }
        }
        return records
    }

    /// Evaluates our predictor and the baselines on each directory; writes a plot where `svg` is given.
    public static func evaluate(
        directories: [String],
        lead: Double = 5,
        svg: String? = nil
    ) throws(MobilityError) -> [MobilityEvaluation] {
        var evaluations: [MobilityEvaluation] = []
        for directory in directories {
            evaluations.append(MobilityEvaluator.evaluate(try load(directory: directory), lead: lead))
        }
        if let svg { try WholeFile.write(Array(EvaluationReport.svg(evaluations).utf8), to: svg) }
        return evaluations
    }
}
