-- A device that goes takes its reports with it; they were looked for in all there are.
CREATE INDEX sender_key_reports_by_device ON sender_key_reports (device);
